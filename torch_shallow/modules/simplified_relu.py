"""A shallow network of few regions, with a proven distance from the network that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.display import TextTable
from torch_shallow.errors import TransformError
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.program.model import hash_tensors


@dataclass(frozen=True, eq=False)
class ProvenDistance:
    """How far each output is from that of another network, in each region.

    Attributes:
        weight: of the outputs: the distance of two outputs is |f - g| / weight, the largest of all outputs.
        bounds: |f - g| is at most this: proven.
        found: the largest |f - g| that was found.
        inputs: where that is.
        reason: why the goal was not reached, or why bounds may be far from what was found; empty if neither is so.
    """

    weight: Float[Tensor, "outputs"]
    bounds: Float[Tensor, "regions outputs"]
    found: Float[Tensor, "regions outputs"]
    inputs: Float[Tensor, "regions outputs inputs"]
    reason: str


@dataclass(frozen=True, eq=False)
class ProvenClasses:
    """Where two networks give the same class: the largest output, or whether a single one is positive.

    The lead of a class is by how much it is above all others, or by how much a single output is above or below 0.

    Attributes:
        margin: what is looked at is where the class of f leads by more than this.
        bounds: in each region, f leads by at most this where the class of g is another one: proven. Infinite where
            nothing is.
        found: the greatest such lead that was found; 0 if there is none.
        inputs: where that is.
    """

    margin: float
    bounds: Float[Tensor, "regions"]
    found: Float[Tensor, "regions"]
    inputs: Float[Tensor, "regions inputs"]


class SimplifiedReLU(ShallowReLU):
    """What `torch_shallow.simplify` makes: a shallow network g of few regions, which knows how far it is from f.

    It is no other than a `ShallowReLU`, but for the attributes below. They speak of the trunks, in real arithmetic on
    the numbers that both networks store, at all points of the domain. They are refused once a number of the network has
    changed. A file does not keep them: what is loaded is a `ShallowReLU`; what `merge` and `harden` give has none.
    """

    _distance: tuple[str, ProvenDistance] | None = None  # with the hash of the tensors that it is of
    _classes: ProvenClasses | Callable[[], ProvenClasses] | None = None

    def keep_distance(self, distance: ProvenDistance, classes: ProvenClasses | Callable[[], ProvenClasses]) -> None:
        """Take note of what was proven of this network as it is now, and of what proves its classes."""
        self._distance, self._classes = (hash_tensors(self.state_dict()), distance), classes

    @property
    def distance(self) -> ProvenDistance:
        """All that was proven, region by region.

        Raises:
            TransformError: nothing was, or numbers of the network have changed.
        """
        if self._distance is None:
            raise TransformError("error: nothing is proven of this network; ask simplify() for one.")
        if self._distance[0] != hash_tensors(self.state_dict()):
            raise TransformError(
                "error: the network's numbers have changed since its error was proven; compare it with the model by "
                "sampling, or ask simplify() again."
            )
        return self._distance[1]

    @property
    def error(self) -> float:
        """No output is farther from that of f than this times its weight: proven for every point of the domain."""
        return float((self.output_errors / self.distance.weight).max())

    @property
    def error_found(self) -> float:
        """The distance at `worst_input`: no bound can be below it."""
        return float((self.distance.found / self.distance.weight).max())

    @property
    def worst_input(self) -> Float[Tensor, "*in_shape"]:
        """The input at which the largest distance was found, float64 on the CPU.

        On a boundary, it may belong to the other side of the cut: the map of the region that it was found for is as far
        off right beside it.
        """
        known = self.distance
        region, output = divmod(int((known.found / known.weight).argmax()), len(known.weight))
        return known.inputs[region, output].reshape(self.in_shape).clone()

    @property
    def output_errors(self) -> Float[Tensor, "outputs"]:
        """The proven bound of |f - g| of each output, flattened, without weights."""
        return self.distance.bounds.amax(0)

    @property
    def region_errors(self) -> Float[Tensor, "regions outputs"]:
        """The proven bound of |f - g| of each output in each region, without weights.

        A search that proves a region ends at the largest error of all regions: that of a region may be smaller.
        """
        return self.distance.bounds.clone()

    def _parts(self) -> Iterable[str | TextTable]:
        yield from super()._parts()
        try:
            distance = self.distance
        except TransformError as error:
            yield str(error)
            return
        errors = [[f"output {k}", f"{error:.3g}"] for k, error in enumerate(self.output_errors.tolist())]
        yield TextTable(["", "proven to be off by at most"], errors)
        if distance.reason:
            yield distance.reason

    @property
    def classes(self) -> ProvenClasses:
        """All that is proven of classes. If simplify() was not asked for the class, this is where it is searched for.

        The search may take as long again as the `time_limit` of simplify().

        Raises:
            TransformError: as for `distance`.
        """
        known = self._classes if self.distance is not None else None  # or an error
        assert known is not None
        if not isinstance(known, ProvenClasses):
            known = self._classes = known()
        return known

    @property
    def region_same_class(self) -> Bool[Tensor, "regions"]:
        """In which regions the class is proven to be that of f, wherever that leads by more than the margin.

        Without `same_class=True`, the margin is what counts as rounding. Where two classes of f are level, either one
        counts.
        """
        return self.classes.bounds <= self.classes.margin

    @property
    def class_error(self) -> float:
        """Wherever f leads by more than this, the class is the same: proven. Infinite where nothing is."""
        known, scores = self.classes, self.output_errors.topk(min(2, len(self.output_errors))).values
        return min(float(known.bounds.max()), float(scores.sum()))

    @property
    def class_input(self) -> Float[Tensor, "*in_shape"] | None:
        """Of the inputs found with another class, one where f leads by most; None if none was found."""
        known = self.classes
        if not float(known.found.max()) > 0.0:
            return None
        return known.inputs[int(known.found.argmax())].reshape(self.in_shape).clone()

    @property
    def reason(self) -> str:
        """Why `max_error` was not reached, or why the proven error may be far from the one found; else empty."""
        return self.distance.reason
