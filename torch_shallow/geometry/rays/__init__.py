"""Cells as rays: the double description method, compiled."""
