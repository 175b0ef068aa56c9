"""Bounds of a program on a cell: intervals, zonotopes, backward linear bounds."""
