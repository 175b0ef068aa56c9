"""How often each neuron is active: dead neurons, always-on neurons, and the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64
from torch import Tensor, from_numpy, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.explain.function import known_network
from torch_shallow.geometry.sharing import blocks
from torch_shallow.modes import outside_modes
from torch_shallow.modules.shallow_relu import ShallowReLU
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
def neuron_activity(shallow: ShallowReLU | nn.Module | ExportedProgram, domain: Domain | None = None) -> NeuronActivity:
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
    partition = activation_partition(network.partition)
    program, regions = partition.program, network.num_regions
    counts = np.zeros(program.num_neurons, dtype=np.int64)
    for block in blocks(regions, program.num_neurons, VALUES_AT_ONCE):
        counts += partition.patterns(block).sum(axis=0)
    whole = program.network
    active = np.where(whole.active, regions, 0)
    active[whole.neurons] = counts
    names = tuple(program.neuron_name(neuron) for neuron in range(len(active)))
    return NeuronActivity(from_numpy(active).to(network.device), regions, names)
