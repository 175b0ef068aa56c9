"""Program and domain to partition.

`enumerate` chooses between three engines, each in a folder of its own; `exploration` gives their work to any number of
workers, stops it and goes on; `growth` puts together what they find; `rebuild` makes the tree short. `estimate` says
how many regions there are without finding them.
"""
