"""Does the network still give what the model gives, behind a head that is not piecewise linear?"""

from __future__ import annotations

import numpy as np
import torch

from torch_shallow.certify.deep import DeepModel
from torch_shallow.certify.places import Places
from torch_shallow.certify.report import Check, Failure
from torch_shallow.certify.subject import Subject
from torch_shallow.certify.tally import Tally


def check_head(subject: Subject, model: DeepModel, places: Places, limit: float = 1e-6) -> Check:
    """The network's output behind the head is the model's.

    Args:
        subject: the network.
        model: the model.
        places: where to look.
        limit: how much a head may make of the rounding of what enters it, relative to 1 + |y|.
    """
    tally, worst = Tally(), 0.0
    for block in subject.blocks(np.arange(len(places.points)), 4 * (subject.program.num_inputs + model.num_neurons)):
        x, regions = places.points[block], places.regions[block]
        expected = model.final_outputs(x)
        with torch.no_grad():
            found = subject.shallow(subject.tensor(x)).double().reshape(expected.shape).cpu().numpy()
        with np.errstate(invalid="ignore"):  # infinities, as of log_softmax
            wrong = np.where(found == expected, 0.0, np.abs(found - expected) / (1.0 + np.abs(expected)))
        wrong = np.nan_to_num(wrong, nan=np.inf).max(axis=1, initial=0.0)
        worst = max(worst, float(wrong.max(initial=0.0)))
        for at in np.flatnonzero(wrong > limit):
            message = f"the output differs from the model's by a relative {wrong[at]:.3g}"
            tally.add(Failure(message, region=int(regions[at]), point=tuple(x[at])))
    return Check(
        f"equal behind the head, {places.name}",
        "the network's output, head included, is the model's; the worst difference is relative to 1 + |y|",
        places.unit,
        places.examined,
        places.total,
        worst,
        f"{limit:.0e}",
        tuple(tally.kept),
        tally.count,
    )
