"""Which inputs are used, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.function import known_network
from torch_shallow.explain.globally.in_chart import InChart, continuous
from torch_shallow.explain.globally.integrals import Volumes
from torch_shallow.modes import outside_modes
from torch_shallow.optional import require


@dataclass(frozen=True, eq=False)
class UnusedFeatures:
    """Where each input is not used: no output of the local model depends on it.

    Attributes:
        features: names of the inputs.
        unused: whether each input is not used in each region, flattened inputs.
        volume_share: of each input, the share of the domain's volume in which it is not used; None without volumes.
    """

    features: Features
    unused: Bool[Tensor, "regions inputs"]
    volume_share: Float[Tensor, "inputs"] | None

    @property
    def never_used(self) -> tuple[str, ...]:
        """Names of the inputs that are used in no region: the output does not depend on them at all."""
        never = self.unused.all(0).tolist()
        return tuple(name for name, unused in zip(self.features.names, never, strict=True) if unused)

    @property
    def share(self) -> Float[Tensor, "inputs"]:
        """Of each input, the share of regions in which it is not used."""
        return self.unused.double().mean(0)

    def regions(self, feature: str | int) -> Tensor:
        """The regions in which an input, by name or number, is not used."""
        return self.unused[:, self.features.index(feature)].nonzero()[:, 0]

    def to_frame(self) -> Any:
        """A row of a pandas table for each input.

        Raises:
            ImportError: pandas is not installed.
        """
        columns = {"feature": list(self.features.names), "unused_share_of_regions": self.share.tolist()}
        if self.volume_share is not None:
            columns["unused_share_of_volume"] = self.volume_share.tolist()
        return require("pandas", "explain").DataFrame(columns)

    def __str__(self) -> str:
        """Inputs that are never used, and shares of the others."""
        never = ", ".join(self.never_used) or "none"
        shares = zip(self.features.names, self.share.tolist(), strict=True)
        lines = [f"  {name}: not used in {share:.1%} of regions" for name, share in shares if 0.0 < share < 1.0]
        return "\n".join([f"never used: {never}", *lines])


@outside_modes
def unused_features(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None = None,
    *,
    features: Features | Sequence[str] | None = None,
    volumes: Volumes | None = None,
    tolerance: float = 1e-12,
) -> UnusedFeatures:
    """Which inputs the trunk never uses, and in which regions it does not use the others.

    Args:
        shallow: a network that knows all regions of its domain; or a model, which is transformed.
        domain: of a model, where to look.
        features: names of the inputs.
        volumes: what `volumes` gives of the same network, for shares of the volume.
        tolerance: a weight up to this size, relative to the terms that it is added up from, is rounding.

    Raises:
        TransformError: not all regions are known, the weights may have been trained, the features or the volumes do not
            fit, or the tolerance is out of range.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
        >>> with torch.no_grad():
        ...     _ = model[0].weight[:, 1].zero_()
        >>> unused_features(model, features=["age", "income"]).never_used
        ('income',)
    """
    if not 0.0 <= tolerance < 1e-3:
        raise TransformError(f"tolerance: expected a number from 0 to below 0.001, found {tolerance}.")
    network = continuous(known_network(shallow, domain), "unused_features")
    subject = InChart(network)
    named = read_features(features, subject.function.num_inputs)
    rounding = tolerance * subject.terms
    unused = np.zeros((network.num_regions, network.num_inputs), dtype=bool)
    for block in subject.blocks():
        unused[block] = (np.abs(subject.maps(block)[0]) <= rounding).all(axis=1)
    found, share = subject.tensor(unused, unused.shape), None
    if volumes is not None:
        if len(volumes.values) != network.num_regions or not np.isfinite(volumes.total):
            raise TransformError(
                f"volumes: expected finite volumes of the {network.num_regions} regions of this network, found "
                f"{len(volumes.values)} that add up to {volumes.total}; leave them out for shares of regions alone."
            )
        share = found.double().T @ volumes.values.to(found.device) / volumes.values.sum()
    return UnusedFeatures(named, found, share)
