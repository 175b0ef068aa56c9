"""Store shallow networks as files: one safetensors file each, from which nothing is ever executed."""
