"""Tutorials: notebooks, the little they share, and the demonstration (`python -m tutorials.demo`)."""
