"""The graph of a model: traced, every node accounted for, and divided into trunk and head."""
