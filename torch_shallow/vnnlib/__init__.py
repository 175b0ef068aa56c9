"""Read queries in VNN-LIB, versions 1 and 2.

`syntax` reads nested lists, `declarations` collects the variables, `assertions` turns terms into formulas, and `query`
combines them.
"""

from torch_shallow.vnnlib.query import VnnlibQuery, read_vnnlib

__all__ = ["VnnlibQuery", "read_vnnlib"]
