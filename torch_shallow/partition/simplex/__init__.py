"""Cells as half-spaces, with a compiled dual simplex method that proves its answers."""
