"""The shallow network: an `nn.Module` of three hidden layers that computes what the deep one computed."""

from __future__ import annotations

import copy
import os
from concurrent.futures import Executor
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.functions import TreeFunction, require_all_regions
from torch_shallow.functions.composed import ComposedSelection
from torch_shallow.functions.layers import DenseIndicator, HalfSpaces, Indicator, Selection, differ
from torch_shallow.functions.points import check_rows
from torch_shallow.geometry.distinct import distinct
from torch_shallow.geometry.sharing import threads_of
from torch_shallow.geometry.tree import Tree
from torch_shallow.modes import outside_modes
from torch_shallow.modules.continuity import ContinuityGap, continuity_gap
from torch_shallow.modules.literal import ExtendedLayer, LiteralNetwork, extended_weights, to_sequential
from torch_shallow.modules.merging import SAME_MAP, merged
from torch_shallow.modules.region_network import RegionNetwork
from torch_shallow.modules.soft_relu import SoftReLU
from torch_shallow.program.model import hash_tensors
from torch_shallow.program.relu_program import ProgramNetwork
from torch_shallow.search.affine_maps import AffineMaps, affine_maps
from torch_shallow.search.partition import Partition, activation_partition
from torch_shallow.search.runs.budget import TASK_SECONDS


class ShallowReLU(RegionNetwork):
    """A ReLU network with three hidden layers: half-spaces, indicator, selection.

    Computes exactly the function of the network it was made from (Villani & Schoots, "Any ReLU Network Is
    Shallow", arXiv 2306.11827), in float64 inside whatever the dtype outside. Its layers are masks in place of the
    paper's infinite weights; `extended_weights` gives those. Outside a bounded domain the output is NaN, and in the
    unexplored cells of a network that is not `complete`.

    What is piecewise linear is the trunk. Where the deep network goes on behind its last piecewise-linear operation, as
    with a softmax, that is the `head`; regions and affine maps are those of the trunk.

    Args:
        partition: the regions, such as the activation regions that `enumerate_regions` finds.
        maps: half-spaces and affine maps; those of the partition's program if None.
        dense: evaluate all half-spaces, in three matrix steps, as the theorem does. Going down the tree was faster for
            every size of network and batch (on the CPU; see benchmarks/README.md).
        head: makes the network's outputs of a batch of the trunk's, in float64, each by itself; nothing if None.
        store_maps: keep the local models; if False, they are computed from the deep network's weights when they are
            needed, which takes a byte for eight neurons of a region in place of the numbers of its local model.

    Raises:
        TransformError: `dense` with a partition that is not complete, or `store_maps=False` with a partition of no deep
            network or with local models among `maps`.

    Attributes:
        partition: tree and interior points of the regions; patterns too, if it is a `Partition`.
        half_spaces: the first layer, of the distinct half-spaces of all cuts.
        indicator: the second layer: the cuts of the tree, and which half-space each of them uses.
        selection: the third layer.
        head: what follows the trunk, or None.
    """

    kind = "tree"
    _how_to_store = "make it with store_maps=True"

    def __init__(
        self,
        partition: Tree,
        maps: AffineMaps | None = None,
        *,
        dense: bool = False,
        head: nn.Module | None = None,
        store_maps: bool = True,
    ) -> None:
        super().__init__()
        self.partition = partition
        self.dense = dense
        maps = affine_maps(activation_partition(partition), local_models=store_maps) if maps is None else maps
        if not store_maps and len(maps.biases):
            raise TransformError(
                f"maps: expected half-spaces alone with store_maps=False, found the local models of {len(maps.biases)} "
                "regions too, which would be dropped; leave out maps, or make them with local_models=False."
            )
        rows, half_space_of = distinct(maps.rows)
        self.half_spaces = HalfSpaces(rows, maps.projection)
        self.indicator = (DenseIndicator if dense else Indicator)(partition, half_space_of)
        self.selection: Selection | ComposedSelection = (
            Selection(maps) if store_maps else ComposedSelection(partition, maps.projection, maps.skip)
        )
        self._may_jump = False
        self._source: str | None = None
        self._made = hash_tensors(self._numbers)  # as long as nobody changes them
        self._seen: tuple[Any, bool] = None, False
        self.register_load_state_dict_post_hook(_settle)
        self._proven: tuple[str, Partition, float] | None = None  # of which tensors and partition; and `max_error`
        self._describe(
            partition.in_shape, partition.out_shape, partition.domain, head, partition.chart.lengths, partition.complete
        )

    @property
    def _numbers(self) -> dict[str, Tensor]:
        """The tensors of the half-spaces and the local models."""
        return {name: t for name, t in self.state_dict().items() if name.startswith(("half_spaces.", "selection."))}

    @property
    def _was_changed(self) -> bool:
        """Whether a number is another one than when the network was made, whoever changed it."""
        numbers = self._numbers
        try:
            versions = tuple((name, tensor.data_ptr(), tensor._version) for name, tensor in numbers.items())
        except RuntimeError:  # inference tensors have none
            versions = None
        if versions is None or versions != self._seen[0]:
            self._seen = versions, hash_tensors(numbers) != self._made
        return self._seen[1]

    @property
    def may_be_discontinuous(self) -> bool:
        """Whether weights may have been changed, so that the output may jump between regions."""
        return self._may_jump or self._was_changed

    @may_be_discontinuous.setter
    def may_be_discontinuous(self, value: bool) -> None:
        self._may_jump = value

    @property
    def source_hash(self) -> str | None:
        """`weights_hash` of the model that the network was made from, as long as it is the same function."""
        return None if self._was_changed else self._source

    @source_hash.setter
    def source_hash(self, value: str | None) -> None:
        self._source = value

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take note where what is loaded is not what is there: then no deep network is known that computes it."""
        changed = [name for name, known in self.state_dict().items() if differ(state_dict.get(prefix + name), known)]
        if changed:
            self.source_hash = None
            self._may_jump |= any(name.startswith("selection.") for name in changed)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def function(self) -> TreeFunction:
        """The trunk as a function, on the very tensors of this network: what certificates and explanations look at."""
        return TreeFunction(self)

    @property
    def num_cuts(self) -> int:
        """Number of cuts of the tree, each of which divides one cell in two: of P known regions, P - 1.

        An unexplored cell counts as a region here.
        """
        return self.partition.num_cuts

    @property
    def num_half_spaces(self) -> int:
        """Number of neurons of the first layer: the distinct half-spaces by which the tree cuts.

        There are as many as cuts or fewer, since many cells are cut by the same half-space: with one hidden layer, each
        neuron is one half-space in all cells. Two half-spaces are the same if all of their numbers are equal.

        Example:
            >>> import torch, torch_shallow
            >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
            >>> shallow = torch_shallow.transform(model)
            >>> shallow.num_regions, shallow.num_cuts, shallow.num_half_spaces
            (37, 36, 8)
        """
        return len(self.half_spaces)

    @property
    def stores_maps(self) -> bool:
        """Whether the local models are stored; if not, they are computed when they are needed."""
        return isinstance(self.selection, Selection)

    @property
    def max_error(self) -> float:
        """A proven bound on |network - model| at every point of the known regions, for all outputs.

        Both are taken in real arithmetic, on the weights that they store; in an unbounded domain the bound is relative
        to 1 + |x|_1. The model is the one that this network was made from, up to its head. Proving takes about as long
        as `transform`; the bound is kept until something is changed. `certify(model)` proves it for a model anew.

        Raises:
            TransformError: the network has merged regions or is not of a deep network; or its model was read without
                the neurons that keep their sign in the box.
        """
        partition, digest = activation_partition(self.partition), hash_tensors(self.state_dict())
        if partition.program.whole is not None:
            raise TransformError(
                "max_error: the network was made from those neurons alone that can change sign in its box, so that "
                "nothing is proven about the others; use certify(model), which looks at the others at sampled points."
            )
        if self._proven is None or self._proven[0] != digest or self._proven[1] is not partition:
            # Imported here because it imports compiled code.
            from torch_shallow.certify.prover import prove

            self._proven = digest, partition, prove(self.function, keep=False).error
        return self._proven[2]

    def _evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Bool[Tensor, "points"]]:
        y, region = self.function.evaluate(x)
        return y, region >= 0

    def _values(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "points outputs"]:
        return self.function.evaluate(x)[0]

    @property
    def _trainable(self) -> nn.Module:
        return self.selection

    def grow(self, x: Float[Tensor, "rows *in_shape"], *, progress: bool = False) -> int:
        """Add the regions of a batch of inputs, in place, to a network of visited regions.

        Args:
            x: floating point, of shape `(rows, *in_shape)`.
            progress: show a bar.

        Returns:
            How many regions are new: none here, where all of them are known.

        Raises:
            TransformError: `x` has another shape, or is not floating point; or cells of a tree are unexplored.
        """
        check_rows("x", x, self.in_shape)
        require_all_regions(self.function, "grow", "inputs add no regions to a tree of cuts")
        return 0

    @outside_modes
    def resume(
        self,
        model: nn.Module | ExportedProgram,
        *,
        max_regions: int | None = None,
        time_limit: float | None = None,
        workers: int | Executor = 1,
        task_seconds: float = TASK_SECONDS,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: bool = False,
    ) -> ShallowReLU:
        """Go on looking for regions where `transform` was stopped: the result is as if it had not been.

        Args:
            model: the model that this network was made from.
            max_regions: stop when there are so many regions, those known included; no limit if None.
            time_limit: stop after so many seconds from now; no limit if None.
            workers: see `transform`, as for all that follow.
            task_seconds: see there.
            checkpoint: see there; of a file that is there, this network's regions or more.
            progress: see there.

        Returns:
            A new network, on the device of this one, complete unless it was stopped again; this very network if it is
            complete.

        Raises:
            TransformError: `model` is another one, the network's weights may have been trained, or as `transform`.

        Example:
            >>> import torch, torch_shallow, warnings
            >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
            >>> with warnings.catch_warnings():
            ...     warnings.simplefilter("ignore")
            ...     part = torch_shallow.transform(model, max_regions=10)
            >>> whole = part.resume(model)
            >>> part.num_regions, part.complete, whole.complete
            (10, False, True)
        """
        # Imported here because numba takes a while.
        from torch_shallow.search.enumerate import resume

        if not self.made_from(model):
            raise TransformError(
                "model: expected the model that this network was made from, found one of other weights, dtypes or "
                "names; transform it on its own."
            )
        if self.complete:
            return self
        if self.may_be_discontinuous:
            raise TransformError(
                "resume: expected the network that transform() returned, found one whose weights may have been "
                "trained, which would be lost; resume before training."
            )
        partition = resume(
            activation_partition(self.partition),
            max_regions=max_regions,
            time_limit=time_limit,
            workers=workers,
            task_seconds=task_seconds,
            checkpoint=checkpoint,
            store_maps=self.stores_maps,
            progress=progress,
        )
        maps = affine_maps(partition, threads_of(workers), local_models=self.stores_maps)
        more = ShallowReLU(partition, maps, head=self.head, store_maps=self.stores_maps).to(self.device)
        more.source_hash = self.source_hash
        return more

    def extended_weights(self) -> list[ExtendedLayer]:
        """The literal matrices of the theorem, entries -inf included: see `torch_shallow.modules.literal`.

        Raises:
            TransformError: not all regions are known.
        """
        return extended_weights(self.function)

    def to_sequential(
        self, infinity: float = 2.0**26, domain: Domain | None = None, *, max_bytes: int = 1 << 30
    ) -> LiteralNetwork:
        """The three hidden layers as `nn.Linear` and `nn.ReLU`, with a large number in place of infinity.

        It equals this network, up to rounding, at points of the domain at which no cut on the way has a pre-activation
        between 0 and `margin`, which is `1 / infinity`: see `torch_shallow.modules.literal`.

        Args:
            infinity: the number in place of infinity.
            domain: where the result has to be exact, bounded; that of this network if None.
            max_bytes: upper limit for the memory of the weights, which grows with the product of regions and
                half-spaces. Making them takes several times as much.

        Returns:
            Modules in float64 with weights of their own, for any batch dimensions; the last is the head, if there is
            one, and then for just one batch dimension. Outside the domain they give numbers that mean nothing.

        Raises:
            TransformError: an argument is no such number or domain, the weights would take more memory or overflow, or
                not all regions are known.

        Example:
            >>> import torch, torch_shallow
            >>> shallow = torch_shallow.transform(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
            >>> literal = shallow.to_sequential(domain=torch_shallow.Box(-1.0, 1.0))
            >>> [type(layer).__name__ for layer in literal]
            ['Linear', 'ReLU', 'Linear', 'ReLU', 'Linear', 'ReLU', 'Linear']
            >>> x = torch.rand(100, 2, dtype=torch.float64)
            >>> torch.allclose(literal(x), shallow(x))
            True
        """
        return to_sequential(self.function, infinity, domain, max_bytes=max_bytes)

    def continuity_gap(self, sample: int | None = None, seed: int = 0, *, progress: bool = False) -> ContinuityGap:
        """The largest jump of the trunk between two regions that touch, over the whole of their common facets.

        It is exact: the maximum over a facet is at one of its vertices, or infinite along one of its rays. The facets
        of each region are computed, which costs a millisecond or less a region in few dimensions, and as much as
        `Region.vertices` in many.

        Args:
            sample: measure all facets of so many regions, drawn at random; of all regions if None.
            seed: of the random choice.
            progress: show a bar.

        Returns:
            The size of the jump, where it is, and how many facets and regions were measured.

        Raises:
            TransformError: not all regions are known, a region has more than 100,000 vertices and rays, or `sample` is
                not positive.

        Example:
            >>> import torch, torch_shallow
            >>> shallow = torch_shallow.transform(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)))
            >>> shallow.continuity_gap().value < 1e-9
            True
        """
        return continuity_gap(self.function, sample, seed, progress=progress)

    @outside_modes
    def soften(self, sharpness: float) -> SoftReLU:
        """A network with finite weights, smooth in all of them, that tends to this one as `sharpness` grows.

        Train it, half-spaces included, and `harden()` gives a shallow network back: see `SoftReLU`.

        Args:
            sharpness: how fast a half-space changes sides, in units of one over length: at a distance of d from a cut,
                sigmoid(-sharpness d) of a point goes to the wrong side.

        Raises:
            TransformError: the sharpness is not positive and finite, or not all regions are known.
        """
        return SoftReLU(self.function, sharpness, type(self))

    @outside_modes
    def merge(self, tolerance: float = SAME_MAP) -> ShallowReLU:
        """The same function with fewer regions: those with the same affine map are one where the tree allows it.

        The tree is built again with cuts that keep such regions together. A region is then a cell of cuts on which the
        trunk is one affine map; it has no activation pattern of its own, and `certify` is for networks before merging.

        Args:
            tolerance: maps are the same if for each output no weight differs by more than this, relative to the
                largest weight of the two, and the bias likewise. What rounding leaves of the largest weights and
                biases of all regions is never a difference.

        Raises:
            TransformError: not all regions are known, the tolerance is no number from 0 to below 1, or there are local
                models that are not finite.

        Example:
            >>> import torch, torch_shallow
            >>> twice = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
            >>> with torch.no_grad():
            ...     _ = twice[0].weight.copy_(torch.tensor([[1.0], [1.0]]))
            ...     _ = twice[0].bias.copy_(torch.tensor([0.0, -1.0]))
            ...     _ = twice[2].weight.copy_(torch.tensor([[1.0, 0.0]]))
            >>> shallow = torch_shallow.transform(twice)
            >>> shallow.num_regions, shallow.num_linear_regions, shallow.merge().num_regions
            (3, 2, 2)
        """
        tree, maps = merged(self.function, tolerance)
        result = type(self)(tree, maps, dense=self.dense, head=self.head, store_maps=self.stores_maps).to(self.device)
        result.source_hash, result.may_be_discontinuous = self.source_hash, self.may_be_discontinuous
        return result

    def deep_network(self, name: str = "shallow") -> nn.Module:
        """See `RegionNetwork.deep_network`."""
        if not (isinstance(self.partition, Partition) and self._known_everywhere) or self.may_be_discontinuous:
            return super().deep_network(name)
        return ProgramNetwork(self.partition.program, copy.deepcopy(self.head))


def _settle(network: nn.Module, _keys: object) -> None:
    """Take loaded numbers for those that the network was made with: `_load_from_state_dict` has judged them."""
    if isinstance(network, ShallowReLU):
        network._made = hash_tensors(network._numbers)
