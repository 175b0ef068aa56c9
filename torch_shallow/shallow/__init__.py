"""Partition to `ShallowReLU`: the module, its layers, its literal weights; `visited` is the one made from data."""
