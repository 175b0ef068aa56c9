"""The affine segments of a graph, read off by linearity with the model's own code."""
