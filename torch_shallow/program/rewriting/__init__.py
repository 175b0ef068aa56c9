"""Piecewise-linear operations written with affine operations and ReLUs: `rewrite` does it, `piecewise` says how."""
