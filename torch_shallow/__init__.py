"""What a ReLU network computes, exactly: any piecewise-linear `nn.Module` as a network of three hidden layers.

Reading order: `transform` is the whole pipeline; `trace` reads the module, `partition` enumerates the regions,
`shallow` is the result, `region` looks at one region, `certify` says why the result is right; `explain` says what the
regions mean, and `plot` draws them. `compiled` says how inner loops are compiled, and `ahead` does it all at once.
"""

from torch_shallow import explain, plot
from torch_shallow.certify import Certificate
from torch_shallow.domain import Box, Polytope
from torch_shallow.errors import TransformError, UnsupportedOperation
from torch_shallow.estimate import Estimate, estimate
from torch_shallow.region import Region
from torch_shallow.shallow.module import ShallowReLU
from torch_shallow.trace.hold import hold
from torch_shallow.trace.onnx.file import from_onnx
from torch_shallow.trace.tracer import trace
from torch_shallow.transform import transform

__version__ = "0.1.0"

__all__ = [
    "Box",
    "Certificate",
    "Estimate",
    "Polytope",
    "Region",
    "ShallowReLU",
    "TransformError",
    "UnsupportedOperation",
    "estimate",
    "explain",
    "from_onnx",
    "hold",
    "plot",
    "trace",
    "transform",
]
