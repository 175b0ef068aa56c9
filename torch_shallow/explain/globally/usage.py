"""Inputs that a network does not use, and the regions in which it does not use them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.display import Displayed
from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.globally.in_chart import InChart
from torch_shallow.explain.globally.integrals import Volumes
from torch_shallow.explain.globally.monotone import SEARCH_TOLERANCE
from torch_shallow.explain.globally.searched_slopes import (
    SlopeSearch,
    looked_at,
    rounding_of_slopes,
    searched_subject,
)
from torch_shallow.explain.subject import Subject
from torch_shallow.modes import outside_modes
from torch_shallow.optional import require


@dataclass(frozen=True, eq=False, repr=False)
class UnusedFeatures(Displayed):
    """Inputs that a network does not use: in a region, none of its local model's outputs depends on them.

    Attributes:
        features: names of the inputs.
        never: whether it is proven for each input that no output depends on it anywhere.
        undecided: whether the search was stopped before this was known, for each input.
        unused: which inputs are not used in each region, of shape `(regions, inputs)`; None for a search.
        volume_share: share of the domain's volume in which each input is not used; None without volumes.
        cells: number of cells that a search opened; 0 where all regions were examined.
        seconds: time that the search took, in seconds.
        reason: reason why the search was stopped; empty if it was not.
        before_head: whether the outputs are the values that enter the network's head (logits).
    """

    features: Features
    never: Bool[Tensor, "inputs"]
    undecided: Bool[Tensor, "inputs"]
    unused: Bool[Tensor, "regions inputs"] | None = None
    volume_share: Float[Tensor, "inputs"] | None = None
    cells: int = 0
    seconds: float = 0.0
    reason: str = ""
    before_head: bool = False

    @property
    def never_used(self) -> tuple[str, ...]:
        """Names of the inputs on which no output depends anywhere."""
        return tuple(name for name, never in zip(self.features.names, self.never.tolist(), strict=True) if never)

    @property
    def proven(self) -> bool:
        """Whether the result is known for all inputs."""
        return not bool(self.undecided.any())

    @property
    def share(self) -> Float[Tensor, "inputs"]:
        """Share of the regions in which each input is not used.

        Raises:
            TransformError: the model was searched without finding its regions.
        """
        return self._in_regions("share").double().mean(0)

    def regions(self, feature: str | int) -> Tensor:
        """Find the regions in which an input is not used.

        Args:
            feature: name or number of the input.

        Returns:
            The numbers of the regions, int64.

        Raises:
            TransformError: there is no such input, or the model was searched without finding its regions.
        """
        return self._in_regions("regions")[:, self.features.index(feature)].nonzero()[:, 0]

    def to_frame(self) -> Any:
        """Tabulate the inputs.

        Returns:
            A pandas DataFrame with one row for each input.

        Raises:
            ImportError: pandas is not installed.
        """
        columns = {"feature": list(self.features.names), "never_used": self.never.tolist()}
        if self.unused is None:
            columns["undecided"] = self.undecided.tolist()
        else:
            columns["unused_share_of_regions"] = self.share.tolist()
        if self.volume_share is not None:
            columns["unused_share_of_volume"] = self.volume_share.tolist()
        return require("pandas", "explain").DataFrame(columns)

    def __str__(self) -> str:
        """Inputs that are never used, and shares of the others."""
        lines = ["of the values before the head:"] * self.before_head
        lines.append(f"never used: {', '.join(self.never_used) or 'none'}")
        if self.unused is not None:
            shares = zip(self.features.names, self.share.tolist(), strict=True)
            lines += [f"  {name}: not used in {share:.1%} of regions" for name, share in shares if 0.0 < share < 1.0]
        if not self.proven:
            names = zip(self.features.names, self.undecided.tolist(), strict=True)
            lines.append(f"not decided ({self.reason or 'rounding'}): {', '.join(name for name, yes in names if yes)}")
        return "\n".join(lines)

    def _in_regions(self, what: str) -> Bool[Tensor, "regions inputs"]:
        if self.unused is None:
            raise TransformError(
                f"{what}: expected a network whose regions are known, found a deep model that was searched without "
                "finding them; call unused_features on the shallow network, transform(model, domain=domain)."
            )
        return self.unused


@outside_modes
def unused_features(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None = None,
    *,
    features: Features | Sequence[str] | None = None,
    volumes: Volumes | None = None,
    tolerance: float = 1e-12,
    example_input: Tensor | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    progress: bool = False,
) -> UnusedFeatures:
    """Find the inputs that the trunk never uses, and the regions in which it does not use the others.

    A deep model in a bounded domain is searched without finding all regions; then only the inputs that are never used
    are known.

    Args:
        shallow: a model, or a network that knows all regions of its domain.
        domain: for a model, the domain to examine; all of R^n if None.
        features: names of the inputs.
        volumes: result of `torch_shallow.explain.volumes` for the same network, to compute shares of the volume.
        tolerance: size below which a weight counts as zero, relative to the terms that it is summed from; for a search
            at least 1e-10, or the rounding of the bounds of a large network.
        example_input: a batch of inputs, needed only where a model does not tell the shape of one.
        workers: for a search, a number of threads, or any `concurrent.futures.Executor`.
        time_limit: time in seconds for all inputs together, after which the search is stopped; no limit if None.
        progress: show the proven interval of each slope in question.

    Returns:
        An `UnusedFeatures`.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: not all regions are known, the weights may have been trained, the features or the volumes do not
            fit, the tolerance is out of range, or an argument of the search is given with a network that knows its
            regions.

    Example:
        >>> import torch
        >>> from torch_shallow.explain import unused_features
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
        >>> with torch.no_grad():
        ...     _ = model[0].weight[:, 1].zero_()
        >>> unused_features(model, features=["age", "income"]).never_used
        ('income',)
    """
    if not 0.0 <= tolerance < 1e-3:
        raise TransformError(f"tolerance: expected a number from 0 to below 0.001, found {tolerance}; leave it out.")
    options = SearchOptions(workers=workers, time_limit=time_limit, progress=progress)
    searched = None if volumes is not None else searched_subject(shallow, domain, example_input)
    if searched is not None:
        named = read_features(features, searched.program.num_inputs)
        return _by_search(searched, named, max(tolerance, SEARCH_TOLERANCE), options)
    begun = time.monotonic()
    network, reason = looked_at(shallow, domain, example_input, options, "unused_features")
    subject = InChart(network)
    named = read_features(features, subject.function.num_inputs)
    rounding = tolerance * subject.terms
    unused = np.zeros((network.num_regions, network.num_inputs), dtype=bool)
    for block in subject.blocks():
        unused[block] = (np.abs(subject.maps(block)[0]) <= rounding).all(axis=1)
    found, share = subject.tensor(unused, unused.shape), None
    if volumes is not None:
        if len(volumes.values) != network.num_regions or not np.isfinite(volumes.total):
            raise TransformError(
                f"volumes: expected finite volumes of the {network.num_regions} regions of this network, found "
                f"{len(volumes.values)} that sum to {volumes.total}; leave them out to get shares of regions alone."
            )
        share = found.double().T @ volumes.values.to(found.device) / volumes.values.sum()
    so_far, nothing = found.all(0), torch.zeros_like(found[0])
    seconds = time.monotonic() - begun
    before_head = network.head is not None
    if reason:  # nothing is known about regions that were not found
        cells = len(found)
        return UnusedFeatures(named, nothing, so_far, None, None, cells, seconds, reason, before_head)
    return UnusedFeatures(named, so_far, nothing, found, share, seconds=seconds, before_head=before_head)


def _by_search(subject: Subject, features: Features, tolerance: float, options: SearchOptions) -> UnusedFeatures:
    """Inputs that are never used, by a search."""
    program, asking = subject.program, Asking(options, options.begun)
    rounding = rounding_of_slopes(program, tolerance)
    search = SlopeSearch(program, subject.domain, asking)
    shape = (2, *rounding.shape)
    seen = search.ends(rounding, np.zeros(shape, dtype=bool), exact=False)
    is_used = (seen.found > rounding).any(axis=(0, 1))
    ends = search.ends(rounding, np.broadcast_to(~is_used, shape), exact=False)
    is_used |= (ends.found > rounding).any(axis=(0, 1))
    never = (ends.bound <= rounding).all(axis=(0, 1)) & ~is_used & ~ends.fixed
    undecided = ~is_used & ~never & ~ends.fixed
    found, still_open = (torch.from_numpy(which).to(subject.device) for which in (never, undecided))
    said = (asking.cells, asking.seconds, asking.reason, subject.head is not None)
    return UnusedFeatures(features, found, still_open, None, None, *said)
