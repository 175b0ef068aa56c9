"""Do the model's own hooks leave its output as it is?"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from torch_shallow.certify.deep_model import DeepModel
from torch_shallow.certify.report import Check, Failure
from torch_shallow.program.model import hooked_parts

POINTS = 10
ROUNDING = 1e3  # in units of the precision, of the largest output


def check_hooks(model: nn.Module, copied: DeepModel, x: Float[np.ndarray, "points inputs"]) -> Check:
    """Call the model with its hooks, and compare: hooks are not part of what was transformed.

    Args:
        model: the model, which has hooks; it is called once.
        copied: a copy of it without hooks, in its own precision.
        x: points.
    """
    x = x[:POINTS]
    expected = copied.final_outputs(x)
    with torch.no_grad():
        output = model(copied.tensor(x))
    found = output.reshape(len(x), -1).double().cpu().numpy()
    # The same code in the same precision: only sums in another order may differ.
    unit = torch.finfo(output.dtype).eps if output.is_floating_point() else 0.0
    allowed = ROUNDING * unit * np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    changed = np.flatnonzero(~np.isclose(found, expected, rtol=0.0, atol=allowed, equal_nan=True).all(axis=1))
    failures = [Failure("the output is another one with the hooks", point=tuple(x[i])) for i in changed]
    return Check(
        "hooks",
        f"the forward hooks of {', '.join(hooked_parts(model))}, which were left out, do not change the output",
        "points",
        len(x),
        None,
        failures=tuple(failures),
        num_failures=len(failures),
    )
