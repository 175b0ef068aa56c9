"""Data in, the network of the regions that they visit out."""

from __future__ import annotations

from torch import Tensor

from torch_shallow.domain import Domain
from torch_shallow.shallow.visited.module import VisitedReLU
from torch_shallow.trace.traced import TracedModel


def visited_network(traced: TracedModel, data: Tensor, domain: Domain, progress: bool = False) -> VisitedReLU:
    """The shallow network of the regions that data visit, compared with the model on all rows of them.

    Time and memory are linear in rows and regions times neurons.

    Args:
        traced: the model; its copy becomes a part of the network.
        data: floating point, of shape `(rows, *in_shape)`, on any device.
        domain: the data lie in it, and the network is only right in it.
        progress: show bars.

    Raises:
        TransformError: the data are no such batch, or some rows are not finite or outside the domain; or the network
            differs from the model.
    """
    shallow = VisitedReLU(traced, domain).to(traced.device)
    shallow._visit("data", data, progress)
    return shallow
