"""Two networks compared: the exact largest difference of every output, and where it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Box, Domain, Polytope, WholeSpace
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.function import known_function, known_network
from torch_shallow.explain.globally.in_chart import InChart
from torch_shallow.explain.globally.output_range import largest_maps, range_of
from torch_shallow.explain.globally.output_values import OutputRange
from torch_shallow.modes import outside_modes
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.program.model import Model
from torch_shallow.program.relu_program import ReLUProgram, Stage, WholeNetwork
from torch_shallow.search.partition import Partition

CANCELLED = 1e-3  # such a share of the networks' own terms counts where they cancel

Network = nn.Module | ExportedProgram


@dataclass(frozen=True, eq=False)
class Difference:
    """By how much two networks differ on a domain. Tensors are float64.

    Attributes:
        largest: of each output, the exact largest `|a(x) - b(x)|` over the domain, up to rounding and to `tolerance`,
            both relative to the size of the networks, not of their difference; inf where it grows without bound.
        where: a point of the domain where it is, of shape `(*out_shape, *in_shape)`; NaN where it is infinite.
        range: the exact range of a - b: both signs, regions, and directions in which it grows.
        network: a - b as a shallow network: its regions are those on which both networks are affine.
    """

    largest: Float[Tensor, "*out_shape"]
    where: Float[Tensor, "*out_and_in_shape"]
    range: OutputRange
    network: ShallowReLU

    def equal(self, tolerance: float = 1e-9) -> bool:
        """Whether no output differs by more than this anywhere in the domain."""
        return bool((self.largest <= tolerance).all())

    def __str__(self) -> str:
        """One line for each output."""
        values = self.largest.reshape(-1).tolist()
        lines = [f"output {i}: |a - b| <= {value:.6g}" for i, value in enumerate(values)]
        return "\n".join([*lines, f"({self.network.num_regions} regions, domain {self.network.domain!r})"])


@outside_modes
def difference(
    a: Network,
    b: Network,
    domain: Domain | None = None,
    *,
    example_input: Tensor | None = None,
    workers: int = 1,
    max_rays: int = 1024,
    tolerance: float = 1e-10,
) -> Difference:
    """The exact largest difference of two networks over a domain: after pruning, quantising, refactoring, training.

    Both are read as programs in float64, each compared with its own network; a - b is one program, which is transformed
    into a shallow network, and its least and greatest values are found as by `output_range`.

    Args:
        a: a model or a shallow network, which must know all regions of its domain.
        b: likewise, of the same shape of inputs and outputs.
        domain: where to compare; that of the shallow networks, or all of R^n for models, if None.
        example_input: as for `transform`, where the shape of an input cannot be seen from the models.
        workers: number of threads.
        max_rays: as for `output_range`.
        tolerance: as for `output_range`.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: the shapes differ, one of them has a head, may have been trained after it was transformed, or is
            not known on the domain; or as `transform`.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> difference(model, model, torch_shallow.Box(-1.0, 1.0)).equal()
        True
    """
    from torch_shallow.search.enumerate import enumerate_regions  # numba takes a while

    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box, a Polytope or None, found {domain!r}.")
    place = _common_domain(a, b, domain)
    programs = [_program(f, name, place, example_input) for f, name in ((a, "a"), (b, "b"))]
    for what in ("in_shape", "out_shape"):
        shapes = [getattr(program, what) for program in programs]
        if shapes[0] != shapes[1]:
            raise TransformError(f"b: expected the {what} of a, {shapes[0]}, found {shapes[1]}; reshape it.")
    both = _side_by_side(*programs)
    outputs = programs[0].num_outputs
    partition = enumerate_regions(
        replace(
            both,
            out_shape=programs[0].out_shape,
            out_weight=both.out_weight[:outputs] - both.out_weight[outputs:],
            out_bias=both.out_bias[:outputs] - both.out_bias[outputs:],
        ),
        place,
        workers=workers,
        keep_part=False,
    )
    network = ShallowReLU(partition).to(_device(a))
    # What cancels leaves rounding of the networks' own size, not of that of their difference.
    apart = ShallowReLU(replace(partition, program=both), store_maps=False)
    sizes = largest_maps(InChart(apart.function)).reshape(2, 2, outputs).max(axis=1)
    found = range_of(InChart(network.function), max_rays, tolerance, sizes, CANCELLED)
    upper = found.upper >= -found.lower
    largest = torch.where(upper, found.upper, -found.lower)
    at = upper.reshape(*upper.shape, *[1] * len(network.in_shape))
    return Difference(largest, torch.where(at, found.argmax, found.argmin), found, network)


def _common_domain(a: Network, b: Network, domain: Domain | None) -> Domain:
    """Where to compare.

    Raises:
        TransformError: a shallow network does not know it, or two have different domains.
    """
    known = [(function, name) for f, name in ((a, "a"), (b, "b")) if (function := known_function(f)) is not None]
    place = domain or (known[0][0].domain if known else WholeSpace())
    for f, name in known:
        if not _covers(f.domain, place, f.in_shape):
            raise TransformError(
                f"domain: {name} is a shallow network of the domain {f.domain!r}, which is not known to cover "
                f"{place!r}; give a domain that lies in it, or the deep model."
            )
    return place


def _covers(outer: Domain, inner: Domain, in_shape: tuple[int, ...]) -> bool:
    if outer is inner or isinstance(outer, WholeSpace):
        return True
    if isinstance(outer, Box) and isinstance(inner, Box):
        (low, high), (lower, upper) = outer.bounds(in_shape), inner.bounds(in_shape)
        return bool((low <= lower).all() and (upper <= high).all())
    if isinstance(outer, Polytope) and isinstance(inner, Polytope):
        return np.array_equal(outer.A, inner.A) and np.array_equal(outer.b, inner.b)
    return False


def _program(f: Network, name: str, domain: Domain, example_input: Tensor | None) -> ReLUProgram:
    """The program of a network, verified.

    Raises:
        WrongTypeError: it is no network.
        TransformError: it has none that is piecewise linear and known.
    """
    program: ReLUProgram | None
    if known_function(f) is not None:
        network = known_network(f, name=name)
        head, tree = network.head, network.tree
        if network.may_be_discontinuous or not isinstance(tree, Partition):
            raise TransformError(
                f"{name}: expected a shallow network as transform() made it, found one whose weights may have been "
                "trained; compare the deep models, or train those."
            )
        program = tree.program
    elif isinstance(f, nn.Module | ExportedProgram):
        read = Model.of(f, example_input, stacklevel=4)
        head = read.traced.head
        program = None if head is not None else read.program(domain)
    else:
        raise WrongTypeError(f"{name}: expected an nn.Module or a ShallowReLU, found {type(f).__name__}.")
    if head is not None or program is None:
        raise TransformError(
            f"{name}: expected a piecewise-linear network, found one with a head ({type(head).__name__}) behind its "
            "last piecewise-linear operation; compare models without it, such as up to the logits."
        )
    return program


def _side_by_side(a: ReLUProgram, b: ReLUProgram) -> ReLUProgram:
    """Both networks as one, with the stages and outputs of a, then of b."""
    d = a.num_inputs
    columns: list[list[int]] = [[], []]  # where the neurons of each are among those of both
    stages, count = [], 0
    for own, name, program in zip(columns, "ab", (a, b), strict=True):
        for stage in program.stages:
            stages.append(Stage(f"{name}: {stage.name}", _spread(stage.weight, own, d, count), stage.bias))
            own.extend(range(count, count + stage.num_neurons))
            count += stage.num_neurons
    weights = [_spread(program.out_weight, own, d, count) for program, own in zip((a, b), columns, strict=True)]
    return ReLUProgram(
        a.in_shape,
        (2 * a.num_outputs,),
        tuple(stages),
        np.concatenate(weights),
        np.concatenate([a.out_bias, b.out_bias]),
        _whole(a, b) if a.whole or b.whole else None,
    )


def _spread(weight: Float[np.ndarray, "rows sources"], own: list[int], d: int, count: int) -> np.ndarray:
    """A weight over the inputs and all neurons so far, from one over the inputs and those of its own network."""
    wide = np.zeros((len(weight), d + count))
    wide[:, :d] = weight[:, :d]
    wide[:, [d + column for column in own[: weight.shape[1] - d]]] = weight[:, d:]
    return wide


def _whole(a: ReLUProgram, b: ReLUProgram) -> WholeNetwork:
    """All neurons of both networks, of which those that keep their sign in the box are in no program."""
    one, other = a.network, b.network
    neurons = np.concatenate([one.neurons, other.neurons + len(one.active)])
    return WholeNetwork((*one.sizes, *other.sizes), np.concatenate([one.active, other.active]), neurons)


def _device(f: Network) -> torch.device:
    known = known_function(f)
    if known is not None:
        return known.device
    if isinstance(f, nn.Module):
        return next((tensor.device for tensor in (*f.parameters(), *f.buffers())), torch.device("cpu"))
    return torch.device("cpu")
