"""Trace the graph of a model, and account for every node."""
