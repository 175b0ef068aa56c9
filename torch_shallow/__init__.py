"""Compute exactly what a ReLU network does: any piecewise-linear `nn.Module` as a network of three hidden layers.

Reading order: `_transform` shows the whole pipeline. `program` reads the module, `search` enumerates the regions,
`functions` holds what is then known, `modules` defines the resulting networks, and `certify` proves them correct.
`explain` interprets the regions, `plot` draws them, and `export` writes them in other languages. `_verify` and `_ask`
answer questions without finding all regions, and `_simplify` builds a network of few regions with a proven error.
`compiled` defines how inner loops are compiled, and `ahead` compiles all of them in advance.
"""

from torch_shallow import explain, export, plot
from torch_shallow._ask import Maximum, Question, ask
from torch_shallow._constraints import constraints
from torch_shallow._count import RegionCount, count
from torch_shallow._estimate import Estimate, estimate
from torch_shallow._simplify import simplify
from torch_shallow._transform import iter_regions, transform
from torch_shallow._verify import verify
from torch_shallow.certify import Certificate
from torch_shallow.domain import Box, Polytope, WholeSpace
from torch_shallow.errors import IncompleteWarning, TransformError, UnsupportedOperation
from torch_shallow.estimators.way_in import from_sklearn
from torch_shallow.functions import Region
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.modules.simplified_relu import SimplifiedReLU
from torch_shallow.modules.visited_relu import VisitedReLU
from torch_shallow.program.hold import hold
from torch_shallow.program.model import trace
from torch_shallow.program.onnx.file import from_onnx
from torch_shallow.properties import AtLeast, AtMost, Between, Linear, Monotone, Wins
from torch_shallow.verdicts.verdict import Verdict
from torch_shallow.version import VERSION
from torch_shallow.vnnlib import VnnlibQuery, read_vnnlib

__version__ = VERSION

__all__ = [
    "AtLeast",
    "AtMost",
    "Between",
    "Box",
    "Certificate",
    "Estimate",
    "IncompleteWarning",
    "Linear",
    "Maximum",
    "Monotone",
    "Polytope",
    "Question",
    "Region",
    "RegionCount",
    "ShallowReLU",
    "SimplifiedReLU",
    "TransformError",
    "UnsupportedOperation",
    "Verdict",
    "VisitedReLU",
    "VnnlibQuery",
    "WholeSpace",
    "Wins",
    "ask",
    "constraints",
    "count",
    "estimate",
    "explain",
    "export",
    "from_onnx",
    "from_sklearn",
    "hold",
    "iter_regions",
    "plot",
    "read_vnnlib",
    "simplify",
    "trace",
    "transform",
    "verify",
]
