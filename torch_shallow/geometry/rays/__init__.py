"""Compiled double description method: cells as rays."""
