"""Neurons that are active somewhere or everywhere, and the number of regions in which they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, from_numpy, nn
from torch.export import ExportedProgram

from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.display import Displayed
from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.function import known_function, known_network
from torch_shallow.functions import TreeFunction
from torch_shallow.geometry.sharing import blocks
from torch_shallow.modes import outside_modes
from torch_shallow.modules.soft_relu import SoftReLU
from torch_shallow.optional import require
from torch_shallow.program.model import Model
from torch_shallow.search.partition import activation_partition

VALUES_AT_ONCE = 1 << 26  # entries of patterns in one block: 64 MB


@dataclass(frozen=True, eq=False, repr=False)
class NeuronActivity(Displayed):
    """Activity of each neuron of the deep network, through all stages: whether it is active anywhere, or everywhere.

    A neuron is dead if its pre-activation is nowhere positive, and always on if it is nowhere negative but somewhere
    positive. Values that are zero up to rounding are neither: a neuron that is zero in some regions and positive in all
    others is always on. Where regions were counted, a neuron is active in a region if its pre-activation is positive
    inside, so a neuron that is always on may be active in fewer than all regions.

    Attributes:
        dead: which neurons are active nowhere; removing them changes nothing in the domain.
        always_on: which neurons pass on their pre-activation everywhere; their ReLUs can be removed.
        undecided: which neurons were not decided when the search was stopped; they are neither dead nor always on.
        names: names such as `"stage 1 neuron 3"`; stages are counted from 1, the neurons of a stage from 0.
        active: number of regions in which each neuron is active; None if they were not counted.
        num_regions: number of all regions; None if they were not counted.
        cells: number of cells that a search opened.
        seconds: time taken, in seconds.
        reason: reason why the search was stopped; empty if it was not.
    """

    dead: Bool[Tensor, "neurons"]
    always_on: Bool[Tensor, "neurons"]
    undecided: Bool[Tensor, "neurons"]
    names: tuple[str, ...]
    active: Int64[Tensor, "neurons"] | None = None
    num_regions: int | None = None
    cells: int = 0
    seconds: float = 0.0
    reason: str = ""

    @property
    def share(self) -> Float[Tensor, "neurons"]:
        """Share of the regions in which each neuron is active.

        Raises:
            TransformError: the regions were not counted.
        """
        if self.active is None or self.num_regions is None:
            raise TransformError(
                "share: expected counted regions, found a deep model that was searched without finding its regions; "
                "call neuron_activity on the shallow network, transform(model, domain=domain)."
            )
        return self.active.double() / self.num_regions

    @property
    def proven(self) -> bool:
        """Whether all neurons are decided."""
        return not bool(self.undecided.any())

    def to_frame(self) -> Any:
        """Tabulate the neurons.

        Returns:
            A pandas DataFrame with one row for each neuron.

        Raises:
            ImportError: pandas is not installed.
        """
        columns: dict[str, list[Any]] = {"neuron": list(self.names)}
        if self.active is not None:
            columns |= {"active_regions": self.active.tolist(), "share": self.share.tolist()}
        columns |= {"dead": self.dead.tolist(), "always_on": self.always_on.tolist()}
        if self.active is None:
            columns["undecided"] = self.undecided.tolist()
        return require("pandas", "explain").DataFrame(columns)

    def __str__(self) -> str:
        """Neurons that are dead, always on, or not decided."""
        counted = f"in {self.num_regions} activation regions"
        if self.num_regions is None:
            counted = f"by a search of {self.cells:,} cells in {self.seconds:.2g} s"
        lines = [f"{len(self.names)} neurons {counted}"]
        groups = [("dead", self.dead), ("always on", self.always_on)]
        if not self.proven:
            groups.append((f"not decided ({self.reason})", self.undecided))
        for what, which in groups:
            names = [name for name, yes in zip(self.names, which.tolist(), strict=True) if yes]
            shown = ", ".join(names[:10]) + f", ... ({len(names)} of them)" * (len(names) > 10)
            lines.append(f"{what}: {shown or 'none'}")
        return "\n".join(lines)


@outside_modes
def neuron_activity(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None = None,
    *,
    example_input: Tensor | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    progress: bool = False,
    method: str = "auto",
    solver: str | None = None,
) -> NeuronActivity:
    """Find the neurons that are dead or always on in the whole domain, and in how many regions each neuron is active.

    The regions of a shallow network are counted. A deep model in a bounded domain is not transformed: proven bounds and
    sample points settle the signs of most neurons, and for each of the others a search looks for a positive value, and
    for a negative one. In an unbounded domain a model is transformed; if that is stopped before all regions are found,
    neurons that had one sign so far are `undecided`.

    Args:
        shallow: a network that knows all regions of its domain, or a model.
        domain: for a model, the domain to examine; all of R^n if None.
        example_input: for a model, a batch of inputs, needed where the model does not tell the shape of one.
        workers: for a search, a number of threads, or any `concurrent.futures.Executor`.
        time_limit: time in seconds after which the search is stopped; neurons not decided by then are `undecided`.
        progress: for a search, show a bar for each neuron in question.
        method: search engine: `"rays"` (few inputs), `"relaxation"` (networks of moderate size), `"backward"` (wide
            networks, many inputs), `"milp"` (one mixed-integer program), or `"auto"`, which chooses one of the first
            three.
        solver: solver of the mixed-integer program, a name in `cvxpy.installed_solvers()`; HiGHS if None.

    Returns:
        A `NeuronActivity`.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: not all regions are known; they are not activation regions, because the network was merged or
            its half-spaces were trained; or an argument of the search is given with a network whose regions are known.

    Example:
        >>> import torch
        >>> from torch_shallow.explain import neuron_activity
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
        >>> with torch.no_grad():
        ...     _ = model[0].weight[1].zero_()
        ...     _ = model[0].bias[1].fill_(-1.0)
        >>> neuron_activity(model).dead.tolist()
        [False, True]
    """
    options = SearchOptions(method, solver, workers, time_limit, None, progress)
    deep = isinstance(shallow, nn.Module | ExportedProgram) and not isinstance(shallow, SoftReLU)
    if not deep or known_function(shallow) is not None:
        options.refuse("a network whose regions are known, which are counted")
        return _counted(known_network(shallow, domain))
    assert isinstance(shallow, nn.Module | ExportedProgram)
    begun = time.monotonic()
    if domain is None or isinstance(domain, WholeSpace):
        return _in_space(shallow, domain, example_input, options)
    read = Model.of(shallow, example_input)
    try:
        bounding_box(domain, read.traced.in_shape)
    except TransformError:  # not bounded; any other error of the domain is raised now
        return _in_space(shallow, domain, example_input, options)
    # Imported here because numba takes a while to import.
    from torch_shallow.explain.globally.signs import signs_of

    asking = Asking(options, begun)
    program = read.program(domain)
    signs, network = signs_of(program, domain, asking), program.network
    always_on, undecided = network.active.copy(), np.zeros(len(network.active), dtype=bool)
    dead = ~always_on
    dead[network.neurons], always_on[network.neurons] = signs.dead, signs.always_on
    undecided[network.neurons] = signs.undecided
    device = next((p.device for p in read.in_own_precision.parameters()), torch.device("cpu"))
    return NeuronActivity(
        dead=from_numpy(dead).to(device),
        always_on=from_numpy(always_on).to(device),
        undecided=from_numpy(undecided).to(device),
        names=tuple(program.neuron_name(neuron) for neuron in range(len(dead))),
        cells=asking.cells,
        seconds=asking.seconds,
        reason=asking.reason,
    )


def _in_space(
    model: nn.Module | ExportedProgram, domain: Domain | None, example_input: Tensor | None, options: SearchOptions
) -> NeuronActivity:
    """Activity of neurons in all regions of an unbounded domain, or in those that were found in time."""
    begun = time.monotonic()
    network, reason = options.regions_of(model, domain, example_input)
    counted, seconds = _counted(network.function), time.monotonic() - begun
    if not reason:
        return replace(counted, seconds=seconds)
    assert counted.active is not None
    nothing = torch.zeros_like(counted.dead)
    return replace(
        counted,
        dead=nothing,
        always_on=nothing,
        undecided=(counted.active == 0) | (counted.active == counted.num_regions),
        active=None,
        num_regions=None,
        cells=network.num_regions,
        seconds=seconds,
        reason=reason,
    )


def _counted(network: TreeFunction) -> NeuronActivity:
    """Activity of neurons in all regions."""
    partition = activation_partition(network.tree)
    program, regions = partition.program, network.num_regions
    counts = np.zeros(program.num_neurons, dtype=np.int64)
    for block in blocks(regions, program.num_neurons, VALUES_AT_ONCE):
        counts += partition.patterns(block).sum(axis=0)
    # Imported here because numba takes a while to import.
    from torch_shallow.explain.globally.signs import negative_at

    always_on = counts > 0
    for block in blocks(regions, program.num_neurons, VALUES_AT_ONCE):
        if np.all(counts[always_on] == regions):
            break
        always_on &= ~negative_at(program, partition.interior_points(block)).any(axis=0)
    whole = program.network
    numbers = np.where(whole.active, regions, 0)
    numbers[whole.neurons] = counts
    passing = whole.active.copy()
    passing[whole.neurons] = always_on
    names = tuple(program.neuron_name(neuron) for neuron in range(len(numbers)))
    active = from_numpy(numbers).to(network.device)
    nothing = torch.zeros_like(active, dtype=torch.bool)
    return NeuronActivity(active == 0, from_numpy(passing).to(network.device), nothing, names, active, regions)
