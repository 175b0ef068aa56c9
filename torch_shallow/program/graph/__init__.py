"""The graph of a model: traced, and every node accounted for."""
