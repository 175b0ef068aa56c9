"""Partition to `ShallowReLU`: the module, its three layers, its literal weights; `visited` is the one made from data."""
