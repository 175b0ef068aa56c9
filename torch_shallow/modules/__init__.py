"""Partition to `ShallowReLU`: the module and its layers, and what can be made of it.

`network` is what all networks have in common; `three_layers` evaluates a partition, by `operators`; `visited` is the
one made from data; `files` save and load it; `tuning` trains it; `merging`, `extended` and `sequential` give it other
forms; `head` is what follows the trunk.
"""
