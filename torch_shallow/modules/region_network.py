"""What networks of regions have in common, whether all regions are known or those that data visit."""

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
    """Make the buffers of a layer's local models parameters, in place and under the same names."""
    for name in _LOCAL_MODELS:
        if hasattr(layer, name) and name not in {**layer._buffers, **layer._parameters}:
            raise TransformError(
                f"unfreeze: expected {name} as a buffer, found it parametrized or pruned; undo that by "
                "torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.prune.remove."
            )
    for name in _LOCAL_MODELS:
        value = layer._buffers.get(name)
        if value is not None:
            delattr(layer, name)
            layer.register_parameter(name, nn.Parameter(value.clone()))


def _freeze(layer: nn.Module) -> None:
    """Make the parameters of a layer's local models buffers, with the values that they have."""
    for name in _LOCAL_MODELS:
        value = layer._parameters.get(name)
        if value is not None:
            delattr(layer, name)
            layer.register_buffer(name, value.detach())


def _in_words(layer: nn.Module) -> str:
    """A layer in a line; of a head of several modules, those without any in them."""
    parts = [part for part in layer.modules() if not list(part.children())]
    return ", ".join(map(repr, parts)) if "\n" in repr(layer) else repr(layer)


Self = TypeVar("Self", bound="RegionNetwork")


class RegionNetwork(Network):
    """A module that holds a piecewise-affine function of known regions, and a head behind it.

    Attributes:
        source_hash: `weights_hash` of the model that the network was made from, if `transform` made it.
        may_be_discontinuous: whether weights may have been trained, so that the output may jump between regions.
        region_type: how a region is seen.
        kind: what a file that has such a network says.
    """

    source_hash: str | None = None
    may_be_discontinuous: bool
    region_type: type[Region] = Region
    kind: str
    _how_to_store: str

    @property
    @abstractmethod
    def function(self) -> TreeFunction | VisitedFunction:
        """The trunk as a function, on the very tensors of this network: what certificates and explanations look at."""

    @property
    def num_regions(self) -> int:
        """Number of known activation regions in the domain (several can share one affine map); after `merge`, fewer.

        If the network is complete, these are all.
        """
        return self.function.num_regions

    @property
    def complete(self) -> bool:
        """Whether every region of the domain is known; if not, the output is NaN where none is."""
        return self.function.complete

    @property
    def missing(self) -> str:
        """What is unknown of the domain, and what to do about it, in words; nothing if all regions are known."""
        return self.function.missing

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.function.device

    @property
    @abstractmethod
    def stores_maps(self) -> bool:
        """Whether the local models are stored; if not, they are computed when they are needed."""

    @property
    def num_linear_regions(self) -> int:
        """Number of different affine maps of the known regions, up to rounding: see `merge`.

        Computed anew each time. A map counts once even where its regions do not touch.
        """
        return int(map_numbers(self.function, SAME_MAP).max()) + 1

    @property
    def regions(self) -> Regions:
        """The regions, as a sequence of `Region`."""
        return Regions(self.function, self.region_type)

    def coverage(self, x: Float[Tensor, "rows *in_shape"]) -> float:
        """The share of a batch of inputs that lie in known regions.

        Raises:
            TransformError: `x` is not a floating-point tensor of shape `(rows, *in_shape)` with one or more rows.
        """
        check_rows("x", x, self.in_shape)
        return float((self.locate(x) >= 0).double().mean())

    def locate(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Int64[Tensor, "*batch"]:
        """Index of the region of each input; -1 where `forward` gives NaN. Argument and errors as there.

        In a network of visited regions, a point on the boundary of several is in that of its own pattern, or else in
        the first.
        """
        return self.function.locate(x)

    def local_map(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "*batch_and_out_and_in_shape"], Float[Tensor, "*batch_and_out_shape"]]:
        """The affine map `weight x + bias` that the trunk computes around each input.

        Returns:
            `weight` of shape `(*batch, *trunk_shape, *in_shape)` and `bias` of shape `(*batch, *trunk_shape)`, in the
            dtype and on the device of `x`; NaN as in `forward`. Argument and errors as there.
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
        """Weight and bias, float64 and flattened, of the trunk's affine maps of some regions."""
        return self.function.affine_maps(regions)

    @property
    @abstractmethod
    def _trainable(self) -> nn.Module:
        """The layer that has the local models."""

    def unfreeze(self: Self) -> Self:
        """Make the local models parameters, in place, so that any optimizer of torch can train them.

        Where that changes them, the network is no longer the deep one, and it jumps between regions: see
        `continuity_gap`. Names in the state dict stay the same.

        Returns:
            The network itself.

        Raises:
            TransformError: the local models are not stored, as with `store_maps=False`, or of a network of visited
                regions in which they would take more than a gigabyte.

        Example:
            >>> import torch, torch_shallow
            >>> shallow = torch_shallow.transform(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)))
            >>> optimizer = torch.optim.Adam(shallow.unfreeze().parameters())
            >>> shallow(torch.randn(5, 2)).square().mean().backward()
            >>> optimizer.step()
            >>> shallow.freeze().may_be_discontinuous
            True
        """
        if not self.stores_maps:
            raise TransformError(
                "unfreeze: the local models of this network are not stored but computed when they are needed, so there "
                f"is nothing to train; {self._how_to_store}."
            )
        _unfreeze(self._trainable)
        self.may_be_discontinuous = True
        return self

    def freeze(self: Self) -> Self:
        """Make the local models buffers again, in place, with the values that they have.

        Returns:
            The network itself.
        """
        _freeze(self._trainable)
        return self

    def certify(
        self, model: nn.Module | ExportedProgram, *, sample: int | None = None, cells: int | None = None
    ) -> Certificate:
        """Prove how far this network is from the model, at most, and check its regions against the model itself.

        About unexplored cells nothing is claimed except that the output is NaN there, and the certificate says that
        there are some.

        `torch_shallow.certify.certify` is the same with more arguments.

        Args:
            model: the model that the network was made from; it is not changed.
            sample: prove nothing, and look at that many regions instead: by linear programs, at vertices and on facets.
                None proves the error on all regions.
            cells: with `sample`, number of regions on whose cells the signs of all neurons are checked; all if None.

        Returns:
            The certificate, to be printed or asked: `certificate.max_error` is the proven bound, and
            `certificate.require()` raises if a check failed.

        Raises:
            TransformError: the model cannot be read, or its input or output has another shape.

        Example:
            >>> import torch, torch_shallow
            >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
            >>> torch_shallow.transform(model).certify(model).passed
            True
        """
        return certify(self.function, model, sample=sample, cells=cells)

    def deep_network(self, name: str = "shallow") -> nn.Module:
        """A deep network of the same function, which `transform` reads in its place where it is a part of a model.

        Args:
            name: of the network, for errors.

        Raises:
            TransformError: it does not know all of R^n, or is not that of a deep network any more.
        """
        raise TransformError(
            f"{name}: expected a complete shallow network of all of R^n, not trained, as a part of a model that "
            f"is read, found {self.extra_repr()}; put the deep model in its place."
        )

    def made_from(self, model: nn.Module | ExportedProgram) -> bool:
        """Whether the network was made from a model of these very weights, dtypes and names included.

        Raises:
            TransformError: `model` is neither a module nor an exported program.

        Example:
            >>> import torch, torch_shallow
            >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
            >>> shallow = torch_shallow.transform(model)
            >>> shallow.made_from(model), shallow.made_from(nn.Linear(2, 3))
            (True, False)
        """
        return weights_hash(model) == self.source_hash

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network into one safetensors file, all or nothing.

        Args:
            path: of the file; one that is there is replaced.

        Raises:
            TransformError: the file cannot be written, or the head (or of a network of visited regions, the deep
                network) is code that cannot be written as operations of torch.

        Example:
            >>> import tempfile, torch, torch_shallow
            >>> shallow = torch_shallow.transform(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
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
        """The network in a file that `save` wrote, on the CPU.

        No code in the file is executed, and only pure operations of torch are read back. A hostile file can hold
        another network, or one that takes any time and memory, as any model can.

        Args:
            path: of the file.

        Returns:
            A network of the kind that was saved, whichever class this is called on.

        Raises:
            TransformError: there is no such file, or it is truncated, altered, of a newer format, or something else.
        """
        return cast("Self", load(path, {kind.kind: kind for kind in RegionNetwork.__subclasses__()}))

    def _parts(self) -> Iterable[str | TextTable]:
        yield from super()._parts()
        yield TextTable(["layer", ""], [[name, _in_words(layer)] for name, layer in self.named_children()])
        if self.missing:
            yield self.missing

    def extra_repr(self) -> str:
        """Inputs, outputs, regions and domain."""
        return self.function.describe(self.out_shape)
