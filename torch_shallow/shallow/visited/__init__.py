"""Shallow networks of the regions that some data visit."""
