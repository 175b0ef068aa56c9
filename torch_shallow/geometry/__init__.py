"""Polyhedra, cones and trees of half-spaces, as arrays: no module of torch, and no network."""
