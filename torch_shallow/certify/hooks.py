"""Do the model's own hooks leave its output as it is?"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from torch_shallow.certify.deep import DeepModel
from torch_shallow.certify.report import Check, Failure
from torch_shallow.trace.model_copy import hooked_parts

POINTS = 10


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
        found = model(copied.tensor(x)).reshape(len(x), -1).double().cpu().numpy()
    changed = np.flatnonzero(~np.isclose(found, expected, rtol=1e-3, atol=1e-6, equal_nan=True).all(axis=1))
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
