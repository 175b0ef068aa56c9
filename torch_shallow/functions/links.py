"""Read from the graph of a network which neurons enter which others directly, as a sparse matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.fx.node import map_aggregate

from torch_shallow.functions.layer_matrices import TooLarge, convolution_matrix, linear_matrix
from torch_shallow.functions.unit_sums import UnitSums, added, found_in, rearranged, scaled
from torch_shallow.program.graph.identify import identify
from torch_shallow.program.graph.operations import names_of
from torch_shallow.program.precision import InFloat64
from torch_shallow.program.rewriting.rewrite import STAGE
from torch_shallow.program.traced import TracedModel

if TYPE_CHECKING:
    from scipy.sparse import csc_array, csr_array

MOST_LINKS = 1 << 22  # 50 MB, and the same again in the other order

SHAPES = names_of("size dim .shape")
REARRANGEMENTS = names_of(
    """
    Identity Flatten Unflatten Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout dropout
    reshape view flatten unflatten squeeze unsqueeze permute transpose t swapaxes swapdims movedim moveaxis .T .mT
    getitem chunk split tensor_split unbind narrow select expand contiguous clone double view_as reshape_as
    index_select roll flip cat concat concatenate stack alias slice split_with_sizes _unsafe_view
    """
)
SCALINGS = names_of(
    "BatchNorm1d BatchNorm2d BatchNorm3d batch_norm neg negative mul multiply div divide true_divide truediv"
)
SUMS = {"add": 1.0, "sub": -1.0, "subtract": -1.0}
LAYERS = dict.fromkeys(["Linear", "linear"], linear_matrix) | dict.fromkeys(
    ["Conv1d", "Conv2d", "conv1d", "conv2d"], convolution_matrix
)


@dataclass(frozen=True, eq=False)
class Links:
    """Hold what enters each unit of a network, as a sum of what leaves others, without inputs and constants.

    Units are the neurons, and some sums of them that several neurons read. They are grouped in blocks, each of which
    reads only preceding ones.

    Attributes:
        weights: one row for each unit that is entered, one column for each unit that is left.
        blocks: the first unit of each block, and the number of units.
        neurons: the unit of each neuron.
    """

    weights: csr_array
    blocks: Int64[np.ndarray, "blocks_and_1"]
    neurons: Int64[np.ndarray, "neurons"]

    @property
    def are_neurons(self) -> Bool[np.ndarray, "units"]:
        """Whether each unit is a neuron."""
        neurons = np.zeros(self.weights.shape[0], dtype=np.bool_)
        neurons[self.neurons] = True
        return neurons

    @cached_property
    def by_column(self) -> csc_array:
        """The weights, column by column."""
        return self.weights.tocsc()

    @staticmethod
    def of(traced: TracedModel) -> Links | None:
        """Return the links of a network; None if it has too many, or operations whose matrix is not known."""
        if writes_in_place(traced):
            return None
        run = _Linking(traced)
        try:
            with torch.no_grad(), InFloat64():
                run.run(torch.zeros(1, *traced.in_shape, dtype=torch.float64, device=traced.device))
        except (_Unknown, TooLarge):
            return None
        return run.links()


def writes_in_place(traced: TracedModel) -> bool:
    """Tell whether the code of a network writes in place, so that values share memory."""
    called = [node for node in traced.graph.nodes if node.op.startswith("call_")]
    return any(identify(traced.root, node).in_place for node in called)


class _Unknown(Exception):
    """Raised if the matrix of an operation is not known."""


_Value: TypeAlias = Any
"""`UnitSums`, or a plain value that does not depend on neurons."""


class _Linking(Interpreter):
    """Run the graph of a network on sums of units, up to its last neurons."""

    def __init__(self, traced: TracedModel) -> None:
        super().__init__(traced.root, graph=traced.graph)
        self.extra_traceback = False
        self.device = traced.device
        self.layouts = iter(traced.layouts)
        self.needed = set[Node]()
        for node in reversed(traced.graph.nodes):
            if STAGE in node.meta or any(user in self.needed for user in node.users):
                self.needed.add(node)
        self.entered: list[csr_array] = []
        self.neurons: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
        self.blocks = [0]

    def links(self) -> Links:
        """Return the links that were found."""
        from scipy.sparse import csr_array, vstack

        for weights in self.entered:
            weights.resize(weights.shape[0], self.blocks[-1])
        weights = vstack(self.entered, format="csr") if self.entered else csr_array((0, 0))
        return Links(weights, np.array(self.blocks), np.concatenate(self.neurons))

    def run_node(self, n: Node) -> _Value:
        """Return the value of a node."""
        if n not in self.needed:
            return None
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if STAGE in n.meta:
            return self._of_neurons(args[0])
        found = found_in(args, kwargs)
        if not found:
            return super().run_node(n)
        name, call = identify(self.module, n).name, self._call(n)
        alone = len(found) == 1 and len(args) > 0 and args[0] is found[0]

        def call_on(x: Tensor) -> Tensor:
            return call(*map_aggregate(args, lambda v: x if isinstance(v, UnitSums) else v), **kwargs)

        value: _Value = None
        if name in SHAPES:
            value = call_on(found[0].labels())
        elif name in REARRANGEMENTS:
            value = rearranged(call, args, kwargs)
        elif name in SUMS and len(args) == 2 and not kwargs:
            value = added(call, args, SUMS[name])
        elif name in SCALINGS and len(found) == 1:
            value = scaled(call_on, found[0], self.device)
        elif name in LAYERS and alone:
            module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
            source = self._as_units(found[0])
            read = LAYERS[name](source.shape, module, args[1:], kwargs, MOST_LINKS)
            value = None if read is None else source.times(*read)
        if value is None:
            raise _Unknown
        return value

    def _call(self, n: Node) -> Callable[..., Any]:
        """Return the function that a node calls."""
        call, target = getattr(self, n.op), n.target
        return lambda *args, **kwargs: call(target, args, kwargs)

    def _of_neurons(self, z: _Value) -> UnitSums:
        """Return what leaves the neurons of a stage."""
        from scipy.sparse import csr_array

        layout, shape = next(self.layouts), tuple(z.shape)
        left = self._left(z.weights if isinstance(z, UnitSums) else csr_array((prod(shape), self.blocks[-1])), shape)
        self.neurons.append(self.blocks[-2] + layout.rows(left.labels(0))[0].long().numpy())
        return left

    def _as_units(self, value: UnitSums) -> UnitSums:
        """Return a value each of whose entries is at most one unit; sums become new units."""
        return value if value.are_units else self._left(value.weights, value.shape)

    def _left(self, entered: csr_array, shape: tuple[int, ...]) -> UnitSums:
        """Return what leaves new units that the given sums enter."""
        from scipy.sparse import csr_array

        count, first = entered.shape[0], self.blocks[-1]
        self.entered.append(entered)
        self.blocks.append(first + count)
        if sum(weights.nnz for weights in self.entered) > MOST_LINKS:
            raise TooLarge
        columns, starts = np.arange(first, first + count, dtype=np.int32), np.arange(count + 1, dtype=np.int32)
        return UnitSums(csr_array((np.ones(count), columns, starts), shape=(count, first + count)), shape)
