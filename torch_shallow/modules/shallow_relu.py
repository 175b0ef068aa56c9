"""Define the shallow network: an `nn.Module` of three hidden layers that computes what the deep network computed."""

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
    """A ReLU network with three hidden layers that computes exactly what a deep network computes; made by `transform`.

    Use it like any module, and ask what it knows of the function:

    - `shallow(x)` computes the output for each input, in the dtype of `x`;
    - `shallow.locate(x)` finds the region of each input, and `shallow.local_map(x)` its affine map;
    - `shallow.regions` lists the regions, each with its affine map, inequalities, vertices and neighbours;
    - `shallow.certify(model)` proves how far the network can be from the model;
    - `shallow.save(path)` writes a file, which `ShallowReLU.load(path)` reads;
    - `shallow.unfreeze()` makes it trainable, and `shallow.merge()` joins regions with equal maps.

    Its layers are half-spaces, indicator and selection (Villani & Schoots, "Any ReLU Network Is Shallow", arXiv
    2306.11827), evaluated in float64 whatever the dtype outside. Masks take the place of the paper's infinite weights,
    which `extended_weights` returns. The output is NaN outside a bounded domain, and in unexplored cells of a network
    that is not `complete`.

    The piecewise-linear part is the trunk. Operations of the deep network after its last piecewise-linear operation,
    such as a softmax, form the `head`; regions and affine maps are those of the trunk.

    Args:
        partition: the regions, such as the activation regions that `enumerate_regions` finds.
        maps: half-spaces and affine maps; those of the partition's program if None.
        dense: whether to evaluate all half-spaces, in three matrix steps, as the theorem does. Descending the tree was
            faster for every size of network and batch (on the CPU; see benchmarks/README.md).
        head: the module that computes the network's outputs from a batch of the trunk's outputs, row by row, in
            float64; none if None.
        store_maps: whether to store the local models. If False, they are computed from the deep network's weights when
            they are needed, and a region takes one byte for every eight neurons in place of its local model.

    Attributes:
        partition: tree and interior points of the regions, and their patterns if it is a `Partition`.
        half_spaces: the first layer, with the distinct half-spaces of all cuts.
        indicator: the second layer, with the cuts of the tree and the half-space that each of them uses.
        selection: the third layer, with the local models.
        head: what follows the trunk, or None.

    Raises:
        TransformError: `dense` is True but the partition is not complete; or `store_maps` is False but the partition
            belongs to no deep network, or `maps` contains local models.

    Example:
        >>> import torch, torch_shallow
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> shallow = torch_shallow.transform(model)
        >>> x = torch.randn(5, 2)
        >>> shallow.num_regions, torch.allclose(shallow(x), model(x), atol=1e-6)
        (37, True)
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
                "maps: expected only half-spaces with store_maps=False, found also the local models of "
                f"{len(maps.biases)} regions, which would be dropped; leave out maps, or compute them with "
                "local_models=False."
            )
        rows, half_space_of = distinct(maps.rows)
        self.half_spaces = HalfSpaces(rows, maps.projection)
        self.indicator = (DenseIndicator if dense else Indicator)(partition, half_space_of)
        self.selection: Selection | ComposedSelection = (
            Selection(maps) if store_maps else ComposedSelection(partition, maps.projection, maps.skip)
        )
        self._may_jump = False
        self._source: str | None = None
        self._made = hash_tensors(self._numbers)  # valid until a number is changed
        self._seen: tuple[Any, bool] = None, False
        self.register_load_state_dict_post_hook(_settle)
        self._proven: tuple[str, Partition, float] | None = None  # hash of the tensors, partition, `max_error`
        self._describe(
            partition.in_shape, partition.out_shape, partition.domain, head, partition.chart.lengths, partition.complete
        )

    @property
    def _numbers(self) -> dict[str, Tensor]:
        """The tensors of the half-spaces and the local models."""
        state = self.half_spaces.state_dict(prefix="half_spaces.")
        return self.selection.state_dict(destination=state, prefix="selection.")

    @property
    def _was_changed(self) -> bool:
        """Whether any number has changed since the network was made."""
        numbers = self._numbers
        try:
            versions = tuple((name, tensor.data_ptr(), tensor._version) for name, tensor in numbers.items())
        except RuntimeError:  # inference tensors have no version
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
        """`weights_hash` of the model that the network was made from; None once a number has changed."""
        return None if self._was_changed else self._source

    @source_hash.setter
    def source_hash(self, value: str | None) -> None:
        self._source = value

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Note whether loaded numbers differ from the present ones, so that no deep network is known any more."""
        changed = [name for name, known in self.state_dict().items() if differ(state_dict.get(prefix + name), known)]
        if changed:
            self.source_hash = None
            self._may_jump |= any(name.startswith("selection.") for name in changed)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def function(self) -> TreeFunction:
        """The trunk as a function that shares this network's tensors, as certificates and explanations use it."""
        return TreeFunction(self)

    @property
    def num_cuts(self) -> int:
        """Number of cuts of the tree, each of which divides one cell in two: P - 1 for P known regions.

        Unexplored cells count as regions here.
        """
        return self.partition.num_cuts

    @property
    def num_half_spaces(self) -> int:
        """Number of neurons of the first layer: the distinct half-spaces by which the tree cuts.

        It is at most the number of cuts, since one half-space often cuts many cells: with one hidden layer, each neuron
        is one half-space in all cells. Two half-spaces are the same if all of their numbers are equal.

        Example:
            >>> import torch, torch_shallow
            >>> _ = torch.manual_seed(0)
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
            >>> shallow = torch_shallow.transform(model)
            >>> shallow.num_regions, shallow.num_cuts, shallow.num_half_spaces
            (37, 36, 8)
        """
        return len(self.half_spaces)

    @property
    def stores_maps(self) -> bool:
        """Whether the local models are stored; if not, they are computed whenever they are needed."""
        return isinstance(self.selection, Selection)

    @property
    def max_error(self) -> float:
        """A proven bound on |network - model| at every point of the known regions, for all outputs.

        Both functions are those of real arithmetic on the stored weights; in an unbounded domain the bound is relative
        to 1 + |x|_1. The model is the one that this network was made from, up to its head. The proof takes about as
        long as `transform`, and the bound is kept until something changes. `certify(model)` proves it again for a given
        model.

        Raises:
            TransformError: the network has merged regions or no deep network; or its model was read without the neurons
                that keep their sign in the box.
        """
        partition, digest = activation_partition(self.partition), hash_tensors(self.state_dict())
        if partition.program.whole is not None:
            raise TransformError(
                "max_error: expected a network made from all neurons of its model, found one made only from those that "
                "can change sign in its box; use certify(model), which examines the others at sampled points."
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
        """Add the regions of a batch of inputs, in place; a complete network has no regions to add.

        Args:
            x: floating point, of shape `(rows, *in_shape)`.
            progress: whether to show a progress bar.

        Returns:
            The number of new regions, which is 0 since all of them are known.

        Raises:
            TransformError: `x` has another shape, or is not floating point; or cells of the tree are unexplored.
        """
        check_rows("x", x, self.in_shape)
        require_all_regions(self.function, "grow", "inputs cannot add regions to a tree of cuts")
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
        """Continue the search for regions where `transform` was stopped; the result is as if it had never stopped.

        Args:
            model: the model that this network was made from.
            max_regions: the number of regions, including known ones, at which to stop; no limit if None.
            time_limit: seconds from now after which to stop; no limit if None.
            workers: a number of threads, or any `concurrent.futures.Executor`.
            task_seconds: seconds that one task of a worker may take before it returns its remaining work.
            checkpoint: a file in which results are saved as they are found. An existing file must contain at least this
                network's regions.
            progress: whether to show the regions, their rate, the explored share of the tree, and the remaining time.

        Returns:
            A new network on the device of this one, complete unless the search was stopped again; or this network
            itself if it is already complete.

        Raises:
            TransformError: `model` is another model, the network's weights may have been trained, or an argument has an
                invalid value.

        Example:
            >>> import torch, torch_shallow, warnings
            >>> _ = torch.manual_seed(0)
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
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
                "model: expected the model that this network was made from, found one with other weights, dtypes or "
                "names; transform that model separately."
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
        """Return the literal matrices of the theorem, including entries of -inf.

        Returns:
            Four affine layers, each with `weight` and `bias` in float64, with a ReLU between each two, where 0 * inf =
            0.

        Raises:
            TransformError: not all regions are known.
        """
        return extended_weights(self.function)

    def to_sequential(
        self, infinity: float = 2.0**26, domain: Domain | None = None, *, max_bytes: int = 1 << 30
    ) -> LiteralNetwork:
        """Write the three hidden layers as `nn.Linear` and `nn.ReLU`, with a large number in place of infinity.

        The result equals this network, up to rounding, at points of the domain where no cut on the path to their region
        has a pre-activation between 0 and `margin`, which is `1 / infinity`.

        Args:
            infinity: the number in place of infinity.
            domain: a bounded domain in which the result has to be exact; that of this network if None.
            max_bytes: upper limit for the memory of the weights in bytes; it grows with the product of regions and
                half-spaces. Building the layers takes several times as much.

        Returns:
            Modules in float64 with their own weights, for any batch dimensions; the last one is the head, if there is
            one, and then for exactly one batch dimension. Outputs outside the domain have no meaning.

        Raises:
            TransformError: an argument has an invalid value, the weights would exceed the memory limit or overflow, or
                not all regions are known.

        Example:
            >>> import torch, torch_shallow
            >>> from torch import nn
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
        """Find the largest jump of the trunk between two adjacent regions, over the whole of their common facets.

        The result is exact: the maximum over a facet is attained at a vertex, or is infinite along a ray. Computing the
        facets takes at most about a millisecond per region in few dimensions, and as long as `Region.vertices` in many.

        Args:
            sample: number of regions, drawn at random, whose facets are measured; all regions if None.
            seed: seed for the random choice of regions.
            progress: whether to show a progress bar.

        Returns:
            The size of the jump, its place, and the numbers of facets and regions that were measured.

        Raises:
            TransformError: not all regions are known, a region has more than 100,000 vertices and rays, or `sample` is
                not positive.

        Example:
            >>> import torch, torch_shallow
            >>> from torch import nn
            >>> shallow = torch_shallow.transform(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)))
            >>> shallow.continuity_gap().value < 1e-9
            True
        """
        return continuity_gap(self.function, sample, seed, progress=progress)

    @outside_modes
    def soften(self, sharpness: float) -> SoftReLU:
        """Build a network with finite weights, smooth in all of them, that tends to this one as `sharpness` grows.

        Train it, half-spaces included, and call `harden()` on it to get a shallow network again.

        Args:
            sharpness: steepness of the soft cuts, in units of 1/length: at distance d from a cut, the share
                sigmoid(-sharpness d) of a point goes to the wrong side.

        Returns:
            A `SoftReLU` with its own parameters.

        Raises:
            TransformError: the sharpness is not positive and finite, or not all regions are known.
        """
        return SoftReLU(self.function, sharpness, type(self))

    @outside_modes
    def merge(self, tolerance: float = SAME_MAP) -> ShallowReLU:
        """Merge regions with the same affine map, where the tree allows it: the same function with fewer regions.

        The tree is rebuilt with cuts that keep such regions together. A region is then a cell of cuts in which the
        trunk is one affine map; it has no activation pattern of its own, and `certify` applies only to networks before
        merging.

        Args:
            tolerance: maps are the same if, for each output, no weight differs by more than this share of the largest
                weight of the two, and the biases likewise. Differences within the rounding of the largest weights and
                biases of all regions are ignored.

        Returns:
            A new network; this one is not changed.

        Raises:
            TransformError: not all regions are known, the tolerance is not a number from 0 to below 1, or local models
                are not finite.

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
        """Return a deep network of the same function, which `transform` reads in its place inside a larger model.

        Args:
            name: name of the network, for error messages.

        Raises:
            TransformError: the network does not know all of R^n, or no longer equals a deep network.
        """
        if not (isinstance(self.partition, Partition) and self._known_everywhere) or self.may_be_discontinuous:
            return super().deep_network(name)
        return ProgramNetwork(self.partition.program, copy.deepcopy(self.head))


def _settle(network: nn.Module, _keys: object) -> None:
    """Record loaded numbers as those that the network was made with, as `_load_from_state_dict` has compared them."""
    if isinstance(network, ShallowReLU):
        network._made = hash_tensors(network._numbers)
