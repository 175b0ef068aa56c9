"""Write networks as code in other languages: C99, Python without imports, SQL and ONNX.

`tables` holds what all targets write, each number once, and `head_steps` what follows the trunk. `fixed_point` converts
the tables to integers, with a proven error.
"""

from torch_shallow.export.c_code import CCode, to_c
from torch_shallow.export.onnx_model import to_onnx
from torch_shallow.export.python_code import to_python
from torch_shallow.export.sql import to_sql

__all__ = ["CCode", "to_c", "to_onnx", "to_python", "to_sql"]
