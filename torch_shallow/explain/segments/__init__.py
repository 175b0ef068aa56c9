"""Straight lines cut where they cross from one region to another: `segment`; `deep_segments` and `tree_segments` do it."""
