"""Partition to `ShallowReLU`: the module and its layers, and what can be made of it.

`operators` evaluate it; `visited` is the one made from data; `files` save and load it; `tuning` trains it; `merging`,
`extended` and `sequential` give it other forms; `head` is what follows the trunk.
"""
