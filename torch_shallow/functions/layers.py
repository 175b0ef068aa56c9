"""Define the three hidden layers, with masks for infinite weights: half-spaces, indicator, selection."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.functional import linear, pad

from torch_shallow.display import counted
from torch_shallow.errors import TransformError
from torch_shallow.functions.operators.locate import locate
from torch_shallow.functions.operators.plain import PlainTree, is_plain, project
from torch_shallow.functions.operators.select import select
from torch_shallow.geometry.tree import Tree
from torch_shallow.program.model import hash_tensors
from torch_shallow.search.affine_maps import AffineMaps

ROUNDING = 1e-6  # relative, since a state may have been converted to float32 meanwhile


class Sketch:
    """Hold a number for each row of a matrix that identifies it, even after the matrix is overwritten."""

    def __init__(self, rows: Float[np.ndarray, "rows columns"]) -> None:
        self._values = rows @ self._weights(rows.shape[1])
        self._shape = rows.shape

    def is_of(self, rows: object) -> bool:
        """Tell whether these may be the same rows, up to rounding; torch itself reports other shapes."""
        if not isinstance(rows, Tensor) or rows.shape != self._shape or rows.is_meta:
            return True
        found = rows.detach().cpu().to(torch.float64).numpy()
        weights = self._weights(self._shape[1])
        return bool((np.abs(found @ weights - self._values) <= ROUNDING * (np.abs(found) @ np.abs(weights))).all())

    @staticmethod
    def _weights(columns: int) -> Float[np.ndarray, "columns"]:
        """Return fixed weights with which no two rows have the same number, up to rounding.

        Sines of distinct integers are linearly independent over all algebraic numbers (Lindemann and Weierstrass).
        """
        return 1.5 + 0.5 * np.sin(np.arange(1.0, columns + 1.0))


def differ(loaded: object, known: Tensor) -> bool:
    """Tell whether a tensor about to be loaded has other values than the present one, beyond rounding."""
    if not isinstance(loaded, Tensor) or loaded.shape != known.shape:
        return False  # not loaded at all
    if loaded.is_meta or known.is_meta:
        return not loaded.is_meta
    if not known.is_floating_point():
        return not torch.equal(loaded.to(known.device), known)
    return not torch.allclose(loaded.detach().to(known), known.detach(), rtol=ROUNDING, atol=0.0, equal_nan=True)


def one_node(layer: nn.Module, **inputs: Any) -> Any:
    """Record the call of a layer as one node, named like the layer, of a graph that `torch.fx` is tracing.

    Without this, `torch.fx` would trace into the layer, since it treats only modules of torch as units.

    Args:
        layer: the layer.
        inputs: the arguments of its `forward`, at least one of them a proxy.
    """
    tracer: Any = next(value.tracer for value in inputs.values() if isinstance(value, Proxy))
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), (), inputs)


class OwnState(nn.Module):
    """A layer that refuses the state of another network, even one of the same shapes."""

    refusal: ClassVar[str]  # message: what was expected of an entry, what was found, and what to do

    def _foreign(self, state: dict[str, Any]) -> str | None:
        """Return the name of an entry that belongs to another network; None if there is none."""
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state = {name: state_dict.get(prefix + name) for name, _ in self.named_buffers(recurse=False)}
        name = self._foreign(state)
        if name is None:
            super()._load_from_state_dict(state_dict, prefix, *rest)
        else:
            error_msgs = rest[-1]
            error_msgs.append(f"{prefix}{name}: {self.refusal}")


class HalfSpaces(OwnState):
    """First layer: tells on which side of every half-space a point lies.

    Each half-space is stored once, however many cuts of the tree use it: a neuron of the first layer cuts many cells
    along the same hyperplane, and a later neuron does so in all cells with the same pattern of the preceding layers.
    The `Indicator` stores which half-space a cut uses. Half-spaces are given in the coordinates `u = projection @ x`
    that the network reads, or in those of the input if `projection` is None.

    Args:
        rows: the distinct half-spaces: a normal and an offset each.
        projection: matrix of the coordinates u, or None.
    """

    refusal = (  # since the regions belong to these half-spaces
        "expected the half-spaces of this network, found those of another network of the same size; transform the "
        "model to which they belong, or use ShallowReLU.save and ShallowReLU.load."
    )
    projection: Tensor | None
    rows: Tensor  # a normal and an offset each, adjacent in memory for the descent of the tree

    def __init__(
        self,
        rows: Float[np.ndarray, "half_spaces homogeneous"],
        projection: Float[np.ndarray, "coordinates inputs"] | None,
    ) -> None:
        super().__init__()
        self.register_buffer("projection", None if projection is None else _tensor(projection))
        self.register_buffer("rows", _tensor(rows))
        self._sketches = {"rows": Sketch(rows)}
        if projection is not None:
            self._sketches["projection"] = Sketch(projection)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def normals(self) -> Float[Tensor, "half_spaces coordinates"]:
        """Normals of the half-spaces; half-space j contains a point where `normals[j] @ u + offsets[j] > 0`."""
        return self.rows[:, :-1]

    @property
    def offsets(self) -> Float[Tensor, "half_spaces"]:
        """Offsets of the half-spaces; half-space j contains a point where `normals[j] @ u + offsets[j] > 0`."""
        return self.rows[:, -1]

    def coordinates(self, x: Float[Tensor, "points inputs"]) -> Float[Tensor, "points coordinates"]:
        """Return the coordinates that the network reads of the input; float64 unless they are the input itself."""
        if self.projection is None:
            return x
        if is_plain(x, self.projection):
            return project(x, self.projection)
        return linear(x.to(torch.float64), self.projection)

    def forward(self, u: Float[Tensor, "points coordinates"]) -> Float[Tensor, "points half_spaces"]:
        """Return the pre-activation of each half-space, positive inside it, float64."""
        return linear(pad(u.to(torch.float64), (0, 1), value=1.0), self.rows)

    def _foreign(self, state: dict[str, Any]) -> str | None:
        return next((name for name, sketch in self._sketches.items() if not sketch.is_of(state[name])), None)

    def extra_repr(self) -> str:
        """Describe the number of half-spaces."""
        return f"{counted(len(self.normals), 'half-space')} in {counted(self.normals.shape[1], 'coordinate')}"


class Indicator(OwnState):
    """Second layer: finds the one region whose half-spaces all agree with the point.

    Args:
        partition: the tree.
        half_spaces: for each cut, the index of its half-space.

    Attributes:
        tree: for each cut, its inactive and its active child, as in `Tree.children`, and the index of its half-space.
    """

    refusal = (
        "expected the tree of cuts of this network, found that of another network of the same size; use "
        "ShallowReLU.save and ShallowReLU.load for whole networks."
    )
    tree: Tensor

    def __init__(self, partition: Tree, half_spaces: Int[np.ndarray, "cuts"]) -> None:
        super().__init__()
        self.num_regions = partition.num_regions
        tree = np.column_stack([partition.children, half_spaces]).astype(np.int64, copy=False)
        self.register_buffer("tree", torch.from_numpy(tree))
        self.depth = partition.depth
        self.plain = PlainTree()
        self._made = hash_tensors({"tree": self.tree})  # the tree itself may be overwritten

    def forward(
        self,
        u: Float[Tensor, "points coordinates"],
        x: Float[Tensor, "points inputs"],
        half_spaces: Float[Tensor, "half_spaces homogeneous"],
        first_limit: Tensor | None,
        second_limit: Tensor | None,
        rounding: float,
    ) -> Int64[Tensor, "points"]:
        """Return the index of the region of each point, or -1 if unknown, using only the cuts on the point's path.

        Args:
            u: the coordinates that the half-spaces read.
            x: the points.
            half_spaces: the rows of the first layer.
            first_limit: first array of the domain's limits, as `inside` takes them, or None.
            second_limit: second array of the domain's limits, or None.
            rounding: the unit of rounding of the dtype in which the points were given.
        """
        if isinstance(x, Proxy):
            limits = {"first_limit": first_limit, "second_limit": second_limit}
            return one_node(self, u=u, x=x, half_spaces=half_spaces, **limits, rounding=rounding)
        return locate(u, x, first_limit, second_limit, half_spaces, self.tree, self.depth, self.num_regions, rounding)

    def _foreign(self, state: dict[str, Any]) -> str | None:
        tree = state["tree"]
        if not isinstance(tree, Tensor) or tree.shape != self.tree.shape or tree.is_meta:
            return None
        return None if hash_tensors({"tree": tree.detach().to(torch.int64)}) == self._made else "tree"

    def extra_repr(self) -> str:
        """Describe the numbers of regions and cuts, and how a region is found."""
        return f"{counted(self.num_regions, 'region')}, {counted(len(self.tree), 'cut')}, tree descent"


class DenseIndicator(Indicator):
    """Second layer as masks over the whole tree, from all half-spaces at once.

    Args:
        partition: the tree.
        half_spaces: for each cut, the index of its half-space.

    Raises:
        TransformError: the tree is not complete.
    """

    must_be_active: Tensor
    must_be_inactive: Tensor

    def __init__(self, partition: Tree, half_spaces: Int[np.ndarray, "cuts"]) -> None:
        if not partition.complete:
            raise TransformError(
                f"dense: expected a complete partition, found one with {len(partition.open_cells)} unexplored cells; "
                "leave out dense, or explore all of them first with shallow.resume(model)."
            )
        super().__init__(partition, half_spaces)
        size = (partition.num_regions, int(half_spaces.max(initial=-1)) + 1)
        active, inactive = (torch.zeros(*size, dtype=torch.float64) for _ in range(2))
        for region in range(partition.num_regions):
            for cut, side in partition.path(region):
                (active if side else inactive)[region, half_spaces[cut]] = 1.0
        self.register_buffer("must_be_active", active, persistent=False)
        self.register_buffer("must_be_inactive", inactive, persistent=False)

    def forward(self, z: Float[Tensor, "points half_spaces"]) -> Int64[Tensor, "points"]:  # type: ignore[override]
        """Return the index of the region of each point: the one without a violated half-space among all of them."""
        positive = (z > 0.0).to(torch.float64)
        violated = linear(positive, self.must_be_inactive) + linear(1.0 - positive, self.must_be_active)
        return violated.argmin(dim=-1)

    def extra_repr(self) -> str:
        """Describe the numbers of regions and cuts, and how a region is found."""
        return f"{counted(self.num_regions, 'region')}, {counted(len(self.tree), 'cut')}, dense masks"


class Selection(nn.Module):
    """Third layer: applies the local model of the point's region, and of no other."""

    weights: Tensor
    biases: Tensor
    skip: Tensor | None

    def __init__(self, maps: AffineMaps) -> None:
        super().__init__()
        self.register_buffer("weights", _tensor(maps.weights))
        self.register_buffer("biases", _tensor(maps.biases))
        self.register_buffer("skip", None if maps.skip is None else _tensor(maps.skip))

    def __len__(self) -> int:
        return len(self.biases)

    def forward(
        self,
        region: Int64[Tensor, "points"],
        u: Float[Tensor, "points coordinates"],
        x: Float[Tensor, "points inputs"],
    ) -> Float[Tensor, "points outputs"]:
        """Return the output of the region's affine map; NaN where the region is -1."""
        if isinstance(x, Proxy):
            return one_node(self, region=region, u=u, x=x)
        return self.with_skip(select(self.weights, self.biases, region, u), x)

    def with_skip(
        self, y: Float[Tensor, "points outputs"], x: Float[Tensor, "points inputs"]
    ) -> Float[Tensor, "points outputs"]:
        """Add the term that all regions share to the values of the maps."""
        return y if self.skip is None else y + linear(x.to(torch.float64), self.skip)

    def maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs coordinates"], Float[Tensor, "some outputs"]]:
        """Return weight and bias of the local models of the given regions, without `skip`."""
        return self.weights[regions], self.biases[regions]

    def extra_repr(self) -> str:
        """Describe the number of local models and their size."""
        regions, outputs, coordinates = self.weights.shape
        sizes = f"{counted(coordinates, 'coordinate')} to {counted(outputs, 'output')}"
        return f"{counted(regions, 'local model')}, {sizes}"


def _tensor(array: Float[np.ndarray, "..."]) -> Tensor:
    # NumPy allocates large pages, in which lookups are faster.
    return torch.from_numpy(np.ascontiguousarray(array))
