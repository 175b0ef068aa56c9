"""A network of few regions near a given one, with a proven distance: cells, their affine maps, and the tree."""
