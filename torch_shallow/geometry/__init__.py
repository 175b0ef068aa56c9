"""Polyhedra, cones and trees of half-spaces, as arrays, without torch modules or networks."""
