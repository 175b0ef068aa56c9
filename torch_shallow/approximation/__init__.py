"""Approximate a network by one of few regions, with a proven distance: cells, their affine maps, and the tree."""
