"""Torch code as a list of operations of ATen that can be written down, and read without executing anything."""
