"""Write piecewise-linear operations with affine operations and ReLUs: `piecewise` defines how, `rewrite` applies it."""
