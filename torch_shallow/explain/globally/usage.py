"""How often each neuron is active, and which inputs are used, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64
from torch import Tensor, from_numpy, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.function import known_network
from torch_shallow.explain.globally.in_chart import InChart, continuous
from torch_shallow.explain.globally.integrals import Volumes
from torch_shallow.geometry.sharing import blocks
from torch_shallow.modes import outside_modes
from torch_shallow.optional import require
from torch_shallow.search.partition import activation_partition

VALUES_AT_ONCE = 1 << 26  # of patterns in memory: 64 MB


@dataclass(frozen=True, eq=False)
class NeuronActivity:
    """Of each neuron of the deep network, through all stages, in how many activation regions it is active.

    Attributes:
        active: number of regions in which the neuron is active: its pre-activation is positive inside.
        num_regions: number of all regions.
        names: such as `"stage 1 neuron 3"`: stages are counted from 1, the neurons of a stage from 0.
    """

    active: Int64[Tensor, "neurons"]
    num_regions: int
    names: tuple[str, ...]

    @property
    def share(self) -> Float[Tensor, "neurons"]:
        """The share of regions in which each neuron is active."""
        return self.active.double() / self.num_regions

    @property
    def dead(self) -> Bool[Tensor, "neurons"]:
        """Which neurons are active in no region: they can be removed and nothing changes in the domain."""
        return self.active == 0

    @property
    def always_on(self) -> Bool[Tensor, "neurons"]:
        """Which neurons are active in every region: they are affine in the domain, and no ReLU."""
        return self.active == self.num_regions

    def to_frame(self) -> Any:
        """A row of a pandas table for each neuron.

        Raises:
            ImportError: pandas is not installed.
        """
        columns = {"neuron": list(self.names), "active_regions": self.active.tolist(), "share": self.share.tolist()}
        columns |= {"dead": self.dead.tolist(), "always_on": self.always_on.tolist()}
        return require("pandas", "explain").DataFrame(columns)

    def __str__(self) -> str:
        """Which neurons are dead or always on."""
        lines = [f"{len(self.names)} neurons in {self.num_regions} activation regions"]
        for what, which in (("dead", self.dead), ("always on", self.always_on)):
            names = [name for name, yes in zip(self.names, which.tolist(), strict=True) if yes]
            shown = ", ".join(names[:10]) + f", ... ({len(names)} of them)" * (len(names) > 10)
            lines.append(f"{what}: {shown or 'none'}")
        return "\n".join(lines)


@outside_modes
def neuron_activity(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor], domain: Domain | None = None
) -> NeuronActivity:
    """In how many activation regions each neuron is active; which are dead, which always on, in the whole domain.

    Args:
        shallow: a network that knows all regions of its domain; or a model, which is transformed.
        domain: of a model, where to look.

    Raises:
        TransformError: not all regions are known, or they are no activation regions: merged, or of a network whose
            half-spaces were trained.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
        >>> with torch.no_grad():
        ...     _ = model[0].weight[1].zero_()
        ...     _ = model[0].bias[1].fill_(-1.0)
        >>> neuron_activity(model).dead.tolist()
        [False, True]
    """
    network = known_network(shallow, domain)
    partition = activation_partition(network.tree)
    program, regions = partition.program, network.num_regions
    counts = np.zeros(program.num_neurons, dtype=np.int64)
    for block in blocks(regions, program.num_neurons, VALUES_AT_ONCE):
        counts += partition.patterns(block).sum(axis=0)
    whole = program.network
    active = np.where(whole.active, regions, 0)
    active[whole.neurons] = counts
    names = tuple(program.neuron_name(neuron) for neuron in range(len(active)))
    return NeuronActivity(from_numpy(active).to(network.device), regions, names)


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
