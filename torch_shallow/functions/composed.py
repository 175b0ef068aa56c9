"""Define the third layer without stored local models: the deep network's weights under a region's pattern."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.functional import linear

from torch_shallow.display import counted
from torch_shallow.errors import TransformError
from torch_shallow.functions.layers import OwnState, one_node
from torch_shallow.geometry.chart import right_inverse
from torch_shallow.geometry.sharing import blocks
from torch_shallow.geometry.tree import Tree
from torch_shallow.search.partition import Partition

POINT_VALUES = 1 << 20  # values of points that run together: 8 MB; more would exceed the cache
REGION_VALUES = 1 << 22  # values of regions whose maps are composed together: 32 MB
SAME_WEIGHTS = 1e-12  # weights that differ by less than this, relative to their size, are equal up to rounding

Parts = list[tuple[Tensor, list[tuple[int, Tensor]]]]


class AffineStage(nn.Module):
    """One stage of a program, or its output: a bias, and a matrix for each source that it reads.

    Source 0 is the input, and source s is stage s. Zero matrices are left out, unless all are zero.

    Args:
        weights: the matrix of each source.
        bias: the bias.
    """

    bias: Tensor

    def __init__(self, weights: list[np.ndarray], bias: Float[np.ndarray, "neurons"]) -> None:
        super().__init__()
        # A stage that reads nothing reads zeros, so that its derivative is zero rather than None.
        self.reads = tuple(source for source, weight in enumerate(weights) if weight.any()) or (0,)
        self.register_buffer("bias", torch.tensor(bias))
        for source in self.reads:
            self.register_buffer(f"weight_{source}", torch.tensor(weights[source]))

    @property
    def parts(self) -> tuple[Tensor, list[tuple[int, Tensor]]]:
        """The bias, and the sources with their matrices."""
        return self.bias, [(source, getattr(self, f"weight_{source}")) for source in self.reads]

    def extra_repr(self) -> str:
        """Describe its size and its sources."""
        names = ("input" if source == 0 else f"stage {source}" for source in self.reads)
        return f"{len(self.bias)} of {', '.join(names)}"


class ComposedSelection(OwnState):
    """Third layer: computes the local model of the region when it is needed.

    The local model of a region is the program with each ReLU replaced by 1 or 0 according to the region's pattern. It
    is evaluated at a point stage by stage, at the cost of the deep network. It is linear in the point, so its
    derivatives are those of the local model. Instead of the local models, it stores one bit for each region and neuron.

    Args:
        partition: the regions.
        projection: the coordinates that the network reads of its input, or None, as in `AffineMaps`.
        skip: weights of the input itself in the output, where the coordinates do not show it, or None.

    Attributes:
        patterns: the pattern of each region, as `np.packbits` packs it, in the memory of the partition, on the CPU.
        skip: weights of the input itself in the output, or None.
        stages: the stages in these coordinates, the output last.

    Raises:
        TransformError: the regions are not those of a deep network.
    """

    refusal = (  # otherwise they would be written into the partition
        "expected the activation patterns of this network, found those of another; use ShallowReLU.save and "
        "ShallowReLU.load for whole networks."
    )
    patterns: Tensor
    bits: Tensor
    skip: Tensor | None

    def __init__(
        self,
        partition: Tree,
        projection: Float[np.ndarray, "coordinates inputs"] | None,
        skip: Float[np.ndarray, "outputs inputs"] | None,
    ) -> None:
        super().__init__()
        if not isinstance(partition, Partition):
            raise TransformError(
                "store_maps: expected a partition of a deep network, from whose weights local models can be computed, "
                f"found a {type(partition).__name__}; create the network with store_maps=True."
            )
        program = partition.program
        self.num_neurons, self.num_outputs = program.num_neurons, program.num_outputs
        self.num_coordinates = program.num_inputs if projection is None else len(projection)
        self.register_buffer("patterns", torch.from_numpy(np.ascontiguousarray(partition.packed_patterns)))
        self.register_buffer("bits", torch.tensor([1 << k for k in reversed(range(8))], dtype=torch.uint8), False)
        self.register_buffer("skip", None if skip is None else torch.tensor(skip))
        lift = None if projection is None else right_inverse(projection, program.units)
        bounds = [program.num_inputs + offset for offset in program.offsets]
        self.stages = nn.ModuleList()
        for stage in program.stages:
            of_input, *hidden = np.split(stage.weight, bounds[: len(self.stages) + 1], axis=1)[:-1]
            of_input = of_input if lift is None else of_input @ lift
            self.stages.append(AffineStage([of_input, *hidden], stage.bias))
        of_input, *hidden = np.split(program.out_weight, bounds[:-1], axis=1)
        if lift is not None:
            of_input = np.zeros((self.num_outputs, lift.shape[1]))  # skip contains this
        self.stages.append(AffineStage([of_input, *hidden], program.out_bias))

    def __len__(self) -> int:
        return len(self.patterns)

    @property
    def _parts(self) -> Parts:
        return [stage.parts for stage in self.stages if isinstance(stage, AffineStage)]

    def forward(
        self,
        region: Int64[Tensor, "points"],
        u: Float[Tensor, "points coordinates"],
        x: Float[Tensor, "points inputs"],
    ) -> Float[Tensor, "points outputs"]:
        """Return the output of the region's affine map; NaN where the region is -1."""
        if isinstance(x, Proxy):
            return one_node(self, region=region, u=u, x=x)
        y = evaluate(self._parts, self.patterns, self.bits, region, u)
        return y if self.skip is None else y + linear(x.to(torch.float64), self.skip)

    def maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs coordinates"], Float[Tensor, "some outputs"]]:
        """Return weight and bias of the local models of the given regions, without `skip`."""
        q, shape = self.num_coordinates, (len(regions), self.num_outputs)
        rows = torch.eye(q + 1, dtype=torch.float64, device=self.patterns.device)
        found = [rows.new_zeros(0, q + 1, self.num_outputs)]
        entries = (q + 1) * (q + 1 + self.num_neurons + self.num_outputs)
        for block in blocks(len(regions), entries, REGION_VALUES):
            active = unpack(self.patterns[regions[block]], self.bits, self.num_neurons)
            y = run(self._parts, rows[:, :q], rows[:, q:], active[:, None])
            found.append(y.broadcast_to(len(active), *y.shape[-2:]))
        y = torch.cat(found)
        return y[:, :q].transpose(1, 2).reshape(*shape, q), y[:, q]

    def require_program(self, argument: str, partition: Tree, projection: Tensor | None) -> None:
        """Check that weights and patterns are still those of a partition, from which they can be rebuilt.

        Args:
            argument: name of the requested argument, for the message.
            partition: the partition.
            projection: the coordinates, or None.

        Raises:
            TransformError: weights or patterns were changed.
        """
        basis = None if projection is None else projection.detach().cpu().numpy()
        for name, expected in ComposedSelection(partition, basis, None).state_dict().items():
            if not _same(self.get_buffer(name).cpu(), expected):
                raise TransformError(
                    f"{argument}: expected the local models of the partition's network, found a changed "
                    f"selection.{name}; transform the changed model again."
                )

    def _foreign(self, state: dict[str, Any]) -> str | None:
        patterns, known = state["patterns"], self.patterns
        if not isinstance(patterns, Tensor) or patterns.shape != known.shape or patterns.is_meta or known.is_meta:
            return None
        return None if torch.equal(patterns.to(known.device), known) else "patterns"

    def __repr__(self) -> str:
        """Write one line, as its stages are those of the deep network."""
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """Describe the number of local models and their size."""
        return (
            f"{counted(len(self), 'local model')} on demand, {counted(self.num_coordinates, 'coordinate')} to "
            f"{counted(self.num_outputs, 'output')} through {counted(self.num_neurons, 'neuron')}"
        )


def evaluate(
    stages: Parts,
    patterns: UInt8[Tensor, "regions bytes"],
    bits: UInt8[Tensor, "8"],
    region: Int64[Tensor, "points"],
    u: Float[Tensor, "points coordinates"],
) -> Float[Tensor, "points outputs"]:
    """Return the value of the local model of each point's region, float64; NaN where there is no region (-1).

    Args:
        stages: stages of the program, the output last.
        patterns: patterns of the regions, packed.
        bits: values of the bits of a byte, the highest first.
        region: index of the region of each point.
        u: the points.
    """
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():  # these have no fixed number of points
        return _evaluate(stages, patterns, bits, region, u)
    some = list(blocks(len(u), u.shape[1] + sum(len(bias) for bias, _ in stages), POINT_VALUES))
    if len(some) <= 1:
        return _evaluate(stages, patterns, bits, region, u)
    return torch.cat([_evaluate(stages, patterns, bits, region[block], u[block]) for block in some])


def _evaluate(stages: Parts, patterns: Tensor, bits: Tensor, region: Tensor, u: Tensor) -> Tensor:
    """Evaluate as many points as run together."""
    active = unpack(patterns[region.clamp(min=0)], bits, sum(len(bias) for bias, _ in stages[:-1]))
    y = run(stages, u.to(torch.float64), torch.ones((), dtype=torch.float64, device=u.device), active)
    return torch.where(region[:, None] < 0, torch.nan, y)


def unpack(
    packed: UInt8[Tensor, "some bytes"], bits: UInt8[Tensor, "8"], neurons: int
) -> Bool[Tensor, "some {neurons}"]:
    """Tell which neurons are active."""
    return (packed[..., None] & bits).flatten(-2)[..., :neurons] != 0


def run(
    stages: Parts,
    u: Float[Tensor, "*rows coordinates"],
    one: Float[Tensor, "*row_or_rows"],
    active: Bool[Tensor, "*patterns neurons"],
) -> Float[Tensor, "*rows_of_patterns outputs"]:
    """Compute the output of the program under given patterns, a linear function of `u` and `one`.

    Args:
        stages: stages of the program, the output last.
        u: the input.
        one: the factor of all biases, 1 at a point.
        active: whether each neuron passes on its pre-activation; others pass on 0.
    """
    values, start = [u], 0
    for bias, weights in stages:
        z = one * bias
        for source, weight in weights:
            z = z + linear(values[source], weight)
        mask = active[..., start : start + len(bias)]
        start += len(bias)
        values.append(torch.where(mask, z, 0.0) if len(values) < len(stages) else z)
    return values[-1]


def _same(found: Tensor, expected: Tensor) -> bool:
    """Tell whether tensors are equal, up to rounding unless they are integers."""
    if not found.is_floating_point():
        return torch.equal(found, expected)
    return bool((found - expected).norm() <= SAME_WEIGHTS * expected.norm())
