"""Segments cut where they cross from one region to another: `segment`, by `deep_segments` and `tree_segments`."""
