"""Straight lines cut where they cross from one region to another: `segment`; `deep` and `tree` do it."""
