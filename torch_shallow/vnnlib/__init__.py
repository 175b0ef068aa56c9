"""Queries in VNN-LIB, versions 1 and 2.

`syntax` reads nested lists, `declarations` says what the variables are, `assertions` makes formulas of terms, and
`query` is the whole.
"""

from torch_shallow.vnnlib.query import VnnlibQuery, read_vnnlib

__all__ = ["VnnlibQuery", "read_vnnlib"]
