"""Define what networks of regions share, whether they know all regions or only those that data visit."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable
from typing import TypeVar, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.certify import Certificate, certify
from torch_shallow.display import TextTable
from torch_shallow.errors import TransformError
from torch_shallow.functions import Region, Regions, TreeFunction, VisitedFunction
from torch_shallow.functions.points import check_rows
from torch_shallow.modules.files.saving import load, save
from torch_shallow.modules.merging import SAME_MAP, map_numbers
from torch_shallow.modules.network import Network
from torch_shallow.program.model import weights_hash

_LOCAL_MODELS = ("weights", "biases", "skip")


def _unfreeze(layer: nn.Module) -> None:
    """Turn the buffers of a layer's local models into parameters, in place and under the same names."""
    for name in _LOCAL_MODELS:
        if hasattr(layer, name) and name not in {**layer._buffers, **layer._parameters}:
            raise TransformError(
                f"unfreeze: expected {name} as a buffer, found it parametrized or pruned; undo that with "
                "torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.prune.remove."
            )
    for name in _LOCAL_MODELS:
        value = layer._buffers.get(name)
        if value is not None:
            delattr(layer, name)
            layer.register_parameter(name, nn.Parameter(value.clone()))


def _freeze(layer: nn.Module) -> None:
    """Turn the parameters of a layer's local models into buffers with the same values."""
    for name in _LOCAL_MODELS:
        value = layer._parameters.get(name)
        if value is not None:
            delattr(layer, name)
            layer.register_buffer(name, value.detach())


def _in_words(layer: nn.Module) -> str:
    """Describe a layer in one line; a head of several modules by its innermost modules."""
    parts = [part for part in layer.modules() if not list(part.children())]
    return ", ".join(map(repr, parts)) if "\n" in repr(layer) else repr(layer)


Self = TypeVar("Self", bound="RegionNetwork")


class RegionNetwork(Network):
    """A module that holds a piecewise-affine function of known regions, and optionally a head after it.

    Attributes:
        source_hash: `weights_hash` of the model that the network was made from, if `transform` made it.
        may_be_discontinuous: whether weights may have been trained, so that the output may jump between regions.
        region_type: the class of the objects in `regions`.
        kind: the name of this kind of network in files.
    """

    source_hash: str | None = None
    may_be_discontinuous: bool
    region_type: type[Region] = Region
    kind: str
    _how_to_store: str

    @property
    @abstractmethod
    def function(self) -> TreeFunction | VisitedFunction:
        """The trunk as a function that shares this network's tensors, as certificates and explanations use it."""

    @property
    def num_regions(self) -> int:
        """Number of known activation regions in the domain, some of which may share one affine map; `merge` lowers it.

        If the network is complete, these are all regions of the domain.
        """
        return self.function.num_regions

    @property
    def complete(self) -> bool:
        """Whether every region of the domain is known; if not, outputs outside the known regions are NaN."""
        return self.function.complete

    @property
    def missing(self) -> str:
        """Which part of the domain is unknown, and what to do about it, in words; empty if all regions are known."""
        return self.function.missing

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.function.device

    @property
    @abstractmethod
    def stores_maps(self) -> bool:
        """Whether the local models are stored; if not, they are computed whenever they are needed."""

    @property
    def num_linear_regions(self) -> int:
        """Number of different affine maps of the known regions, up to rounding, as defined by `merge`.

        It is computed each time it is read. A map counts once even if its regions do not touch.
        """
        return int(map_numbers(self.function, SAME_MAP).max()) + 1

    @property
    def regions(self) -> Regions:
        """The regions, as a sequence of `Region`.

        Example:
            >>> import torch, torch_shallow
            >>> _ = torch.manual_seed(0)
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
            >>> shallow = torch_shallow.transform(model)
            >>> len(shallow.regions), shallow.regions[0].index
            (7, 0)
        """
        return Regions(self.function, self.region_type)

    def coverage(self, x: Float[Tensor, "rows *in_shape"]) -> float:
        """Compute the share of a batch of inputs that lie in known regions, from 0 to 1.

        Args:
            x: floating point, of shape `(rows, *in_shape)` with at least one row.

        Raises:
            TransformError: `x` is not a floating-point tensor of this shape.
        """
        check_rows("x", x, self.in_shape)
        return float((self.locate(x) >= 0).double().mean())

    def locate(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Int64[Tensor, "*batch"]:
        """Find the index of the region of each input; -1 where `forward` gives NaN.

        In a network of visited regions, a point on a boundary belongs to the region of its own pattern if that is
        known, and else to the first known region that contains it.

        Args:
            x: floating point, of shape `(*batch, *in_shape)` with any number of batch dimensions, including none.

        Returns:
            Indices into `regions`, int64, of shape `batch`.

        Raises:
            TransformError: `x` has another shape, or is not floating point.

        Example:
            >>> import torch, torch_shallow
            >>> shallow = torch_shallow.transform(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()))
            >>> x = torch.randn(5, 2)
            >>> [bool(shallow.regions[k].contains(point)) for k, point in zip(shallow.locate(x).tolist(), x)]
            [True, True, True, True, True]
        """
        return self.function.locate(x)

    def local_map(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "*batch_and_out_and_in_shape"], Float[Tensor, "*batch_and_out_shape"]]:
        """Return the affine map `weight x + bias` that the trunk computes around each input.

        Args:
            x: floating point, of shape `(*batch, *in_shape)` with any number of batch dimensions, including none.

        Returns:
            `weight` of shape `(*batch, *trunk_shape, *in_shape)` and `bias` of shape `(*batch, *trunk_shape)`, in the
            dtype and on the device of `x`; NaN where `x` is outside the domain or in no known region.

        Raises:
            TransformError: `x` has another shape, or is not floating point.
        """
        region = self.locate(x)
        weight, bias = self.affine_maps(region.reshape(-1).clamp(min=0))
        outside = region.reshape(-1) < 0
        weight[outside], bias[outside] = torch.nan, torch.nan
        batch = region.shape
        return (
            weight.to(x.dtype).reshape(*batch, *self.trunk_shape, *self.in_shape),
            bias.to(x.dtype).reshape(*batch, *self.trunk_shape),
        )

    def affine_maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs inputs"], Float[Tensor, "some outputs"]]:
        """Return weights and biases of the trunk's affine maps in the given regions, float64 and flattened."""
        return self.function.affine_maps(regions)

    @property
    @abstractmethod
    def _trainable(self) -> nn.Module:
        """The layer that holds the local models."""

    def unfreeze(self: Self) -> Self:
        """Turn the local models into parameters, in place, so that any optimizer of torch can train them.

        Once training changes them, the network no longer equals the deep one and jumps between regions;
        `continuity_gap` measures the largest jump. Names in the state dict stay the same.

        Returns:
            The network itself.

        Raises:
            TransformError: the local models are not stored, because of `store_maps=False` or, in a network of visited
                regions, because they would take more than a gigabyte.

        Example:
            >>> import torch, torch_shallow
            >>> from torch import nn
            >>> shallow = torch_shallow.transform(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)))
            >>> optimizer = torch.optim.Adam(shallow.unfreeze().parameters())
            >>> shallow(torch.randn(5, 2)).square().mean().backward()
            >>> optimizer.step()
            >>> shallow.freeze().may_be_discontinuous
            True
        """
        if not self.stores_maps:
            raise TransformError(
                "unfreeze: expected stored local models, found a network that computes them when they are needed, so "
                f"there is nothing to train; {self._how_to_store}."
            )
        _unfreeze(self._trainable)
        self.may_be_discontinuous = True
        return self

    def freeze(self: Self) -> Self:
        """Turn the local models into buffers again, in place, with their present values.

        Returns:
            The network itself.
        """
        _freeze(self._trainable)
        return self

    def certify(
        self, model: nn.Module | ExportedProgram, *, sample: int | None = None, cells: int | None = None
    ) -> Certificate:
        """Prove how far this network can be from the model, and check its regions against the model itself.

        Unexplored cells are reported by the certificate; it claims only that the output is NaN there.
        `torch_shallow.certify.certify` does the same with more arguments.

        Args:
            model: the model that the network was made from; it is not changed.
            sample: number of regions to examine by linear programs, at vertices and on facets, instead of proving
                anything; None proves the error on all regions.
            cells: with `sample`, number of regions on whose cells the signs of all neurons are checked; all if None.

        Returns:
            The certificate: print it, or read `certificate.max_error`, the proven bound; `certificate.require()` raises
            if a check failed.

        Raises:
            TransformError: the model cannot be read, or its input or output has another shape.

        Example:
            >>> import torch, torch_shallow
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
            >>> torch_shallow.transform(model).certify(model).passed
            True
        """
        return certify(self.function, model, sample=sample, cells=cells)

    def deep_network(self, name: str = "shallow") -> nn.Module:
        """Return a deep network of the same function, which `transform` reads in its place inside a larger model.

        Args:
            name: name of the network, for error messages.

        Raises:
            TransformError: the network does not know all of R^n, or no longer equals a deep network.
        """
        raise TransformError(
            f"{name}: expected a complete, untrained shallow network of all of R^n as a part of a model, found "
            f"{self.extra_repr()}; put the deep model in its place."
        )

    def made_from(self, model: nn.Module | ExportedProgram) -> bool:
        """Tell whether the network was made from a model with exactly these weights, dtypes and names.

        Args:
            model: a module or an exported program.

        Raises:
            TransformError: `model` is neither a module nor an exported program.

        Example:
            >>> import torch, torch_shallow
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
            >>> shallow = torch_shallow.transform(model)
            >>> shallow.made_from(model), shallow.made_from(torch.nn.Linear(2, 3))
            (True, False)
        """
        return weights_hash(model) == self.source_hash

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to one safetensors file, whole or not at all.

        Args:
            path: path of the file; an existing file is replaced.

        Raises:
            TransformError: the file cannot be written; or the head, or the deep network of visited regions, contains
                code that cannot be written as operations of torch.

        Example:
            >>> import tempfile, torch, torch_shallow
            >>> shallow = torch_shallow.transform(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()))
            >>> x = torch.randn(5, 2)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     shallow.save(f"{folder}/network.safetensors")
            ...     again = torch_shallow.ShallowReLU.load(f"{folder}/network.safetensors")
            >>> torch.equal(again(x), shallow(x))
            True
        """
        save(self, path)

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str]) -> Self:
        """Load a network from a file that `save` wrote, onto the CPU.

        No code in the file is executed, and only pure operations of torch are read. Like any model, a hostile file can
        hold another network, or one that takes arbitrary time and memory.

        Args:
            path: path of the file.

        Returns:
            A network of the kind that was saved, whichever class this is called on.

        Raises:
            TransformError: the file does not exist, is truncated or altered, has a newer format, or is something else.
        """
        return cast("Self", load(path, {kind.kind: kind for kind in RegionNetwork.__subclasses__()}))

    def _parts(self) -> Iterable[str | TextTable]:
        yield from super()._parts()
        yield TextTable(["layer", ""], [[name, _in_words(layer)] for name, layer in self.named_children()])
        if self.missing:
            yield self.missing

    def extra_repr(self) -> str:
        """Describe inputs, outputs, regions and domain."""
        return self.function.describe(self.out_shape)
