"""Program and domain to partition.

`enumerate` chooses between three engines, each in a folder of its own; `rebuild` makes the tree short.
"""
