"""Shallow networks as files: one safetensors file each, of which nothing is ever executed."""
