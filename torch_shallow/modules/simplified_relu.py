"""Define a shallow network of few regions with a proven distance from the network that it replaces."""

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
    """Hold the distance of each output from that of another network, in each region.

    Attributes:
        weight: the unit of each output: the distance of two networks is the largest |f - g| / weight over all outputs.
        bounds: a proven upper bound on |f - g|.
        found: the largest |f - g| that was found.
        inputs: the inputs where it was found.
        reason: why the goal was not reached, or why the bounds may be far from what was found; otherwise empty.
    """

    weight: Float[Tensor, "outputs"]
    bounds: Float[Tensor, "regions outputs"]
    found: Float[Tensor, "regions outputs"]
    inputs: Float[Tensor, "regions outputs inputs"]
    reason: str


@dataclass(frozen=True, eq=False)
class ProvenClasses:
    """Hold where two networks give the same class: the largest output, or whether a single one is positive.

    The lead of a class is how far its output exceeds all others, or how far a single output is from 0.

    Attributes:
        margin: only points where the class of f leads by more than this are compared.
        bounds: for each region, a proven upper bound on the lead of f where the class of g differs; infinite if nothing
            is proven.
        found: the greatest such lead that was found; 0 if there is none.
        inputs: the inputs where it was found.
    """

    margin: float
    bounds: Float[Tensor, "regions"]
    found: Float[Tensor, "regions"]
    inputs: Float[Tensor, "regions inputs"]

    @property
    def same(self) -> Bool[Tensor, "regions"]:
        """For each region, whether the class is proven to be the same wherever f leads by more than the margin."""
        return self.bounds <= self.margin


class SimplifiedReLU(ShallowReLU):
    """A `ShallowReLU` g of few regions, made by `torch_shallow.simplify`, with proven bounds on its distance from f.

    Call it and use it like any `ShallowReLU`. In addition, `error` bounds its distance from the network f,
    `worst_input` is the input with the largest distance found, and `region_same_class` tells where both give the same
    class. These bounds concern the trunks, in real arithmetic on the stored numbers, at all points of the domain. They
    are refused once a number of the network has changed. Files do not keep them, so a loaded network is a
    `ShallowReLU`; networks made by `merge` and `harden` have none.

    Example:
        >>> import torch, torch_shallow
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> simple = torch_shallow.simplify(model, torch_shallow.Box(-1.0, 1.0), max_error=0.04)
        >>> x = simple.worst_input
        >>> bool((simple(x) - model.double()(x)).abs() <= simple.error)
        True
    """

    _distance: tuple[str, ProvenDistance] | None = None  # with the hash of the tensors that it concerns
    _classes: ProvenClasses | Callable[[], ProvenClasses] | None = None

    def keep_distance(self, distance: ProvenDistance, classes: ProvenClasses | Callable[[], ProvenClasses]) -> None:
        """Store what was proven about this network in its present state, and what proves its classes."""
        self._distance, self._classes = (hash_tensors(self.state_dict()), distance), classes

    @property
    def distance(self) -> ProvenDistance:
        """All proven distances, region by region.

        Raises:
            TransformError: nothing was proven, or numbers of the network have changed.
        """
        if self._distance is None:
            raise TransformError(
                "error: expected a network with a proven error, found one without; call simplify() to make one."
            )
        if self._distance[0] != hash_tensors(self.state_dict()):
            raise TransformError(
                "error: expected the numbers for which the error was proven, found that they have changed; compare the "
                "network with the model by sampling, or call simplify() again."
            )
        return self._distance[1]

    @property
    def error(self) -> float:
        """A proven bound on |f - g| / weight, for all outputs at all points of the domain."""
        return float((self.output_errors / self.distance.weight).max())

    @property
    def error_found(self) -> float:
        """The distance at `worst_input`; no valid bound is smaller."""
        return float((self.distance.found / self.distance.weight).max())

    @property
    def worst_input(self) -> Float[Tensor, "*in_shape"]:
        """The input at which the largest distance was found, float64 on the CPU.

        If it lies on a boundary, it may belong to the region on the other side of the cut; points right beside it,
        inside the region for which it was found, are as far off.
        """
        known = self.distance
        region, output = divmod(int((known.found / known.weight).argmax()), len(known.weight))
        return known.inputs[region, output].reshape(self.in_shape).clone()

    @property
    def output_errors(self) -> Float[Tensor, "outputs"]:
        """A proven bound on |f - g| for each output, flattened, not divided by weights."""
        return self.distance.bounds.amax(0)

    @property
    def region_errors(self) -> Float[Tensor, "regions outputs"]:
        """A proven bound on |f - g| for each output in each region, not divided by weights.

        The search that proves a region stops at the largest error of all regions, so a region's own error may be
        smaller.
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
        """All that is proven about classes; without `same_class=True`, the search runs when this is first read.

        The search may take as long again as the `time_limit` of simplify().

        Raises:
            TransformError: nothing was proven, or numbers of the network have changed.
        """
        known = self.known_classes
        if known is None:
            assert callable(self._classes)
            known = self._classes = self._classes()
        return known

    @property
    def known_classes(self) -> ProvenClasses | None:
        """Everything that is proven about classes, if it has been searched for already; else None.

        Raises:
            TransformError: nothing was proven, or numbers of the network have changed.
        """
        known = self._classes if self.distance is not None else None  # or an error
        return known if isinstance(known, ProvenClasses) else None

    @property
    def region_same_class(self) -> Bool[Tensor, "regions"]:
        """For each region, whether the class is proven to be that of f wherever f leads by more than the margin.

        Without `same_class=True`, the margin is that of rounding. Where two classes of f are level, either one counts.
        """
        return self.classes.same

    @property
    def class_error(self) -> float:
        """A proven lead of f above which both networks give the same class; infinite if nothing is proven."""
        known, scores = self.classes, self.output_errors.topk(min(2, len(self.output_errors))).values
        return min(float(known.bounds.max()), float(scores.sum()))

    @property
    def class_input(self) -> Float[Tensor, "*in_shape"] | None:
        """Among the inputs found with different classes, one where f leads by most; None if none was found."""
        known = self.classes
        if not float(known.found.max()) > 0.0:
            return None
        return known.inputs[int(known.found.argmax())].reshape(self.in_shape).clone()

    @property
    def reason(self) -> str:
        """Why `max_error` was not reached, or why the proven error may be far from the one found; otherwise empty."""
        return self.distance.reason
