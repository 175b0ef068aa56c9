"""Proven bound of a shallow network's error on each of its regions, and the lines of the file that proves it."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from torch_shallow import check
from torch_shallow.certify.proof_data import Place, ProofData

if TYPE_CHECKING:
    from torch_shallow.certify.error_walk import Settled


@dataclass(frozen=True)
class Proof:
    """Proof about a tree function f and its program g: |f - g| <= error at every point of the known regions.

    Both are evaluated in real arithmetic, on their stored float64 numbers. `torch_shallow/check.py` contains the
    statement and why it holds; the numbers here are float64, rounded outward.

    Attributes:
        data: The function, the program and the domain as arrays.
        errors: The proven bound on each region.
        relative_to_size: Whether the bounds are to be multiplied by 1 + |x|_1, as the domain is not bounded.
        found: The multipliers; None if they were not kept.
        better: Entries that replace those of some neurons at some nodes in the file.
    """

    data: ProofData
    errors: Float[np.ndarray, "regions"]
    relative_to_size: bool
    found: Settled | None
    better: Mapping[Place, list[Any]] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """The largest of `errors`."""
        return float(self.errors.max(initial=0.0))

    @property
    def worst_region(self) -> int:
        """The region with the largest error."""
        return int(self.errors.argmax())

    @property
    def unit(self) -> str:
        """Factor by which the bounds are to be multiplied, in words."""
        return " (1 + |x|_1)" if self.relative_to_size else ""

    @cached_property
    def header(self) -> dict[str, Any]:
        """Return the first line of the file."""
        return self.data.header() | {"error": self.error if np.isfinite(self.error) else None}

    def nodes(self, regions: Int[np.ndarray, "some"] | None = None) -> Iterator[list[Any]]:
        """Yield the lines after the first, in the format of `torch_shallow/check.py`.

        Args:
            regions: Regions to include, with the path to each; other subtrees are open. All regions by default.

        Raises:
            ValueError: The multipliers were not kept.
        """
        if self.found is None:
            raise ValueError("proof: expected one that was made with keep=True, found one without multipliers.")
        return self.data.nodes(self.found, regions, self.better)

    def exact_errors(self, regions: Int[np.ndarray, "some"]) -> Float[np.ndarray, "some"]:
        """Return tighter bounds on some regions, proven by the same multipliers in exact arithmetic; this is slow."""
        order = np.unique(regions)
        bounds = {
            leaf: min(check.rounded_up(error), float(self.errors[leaf]))
            for leaf, error in check.bounds_of_leaves(self.header, self.nodes(order))
            if error is not None
        }
        return np.array([bounds[int(region)] for region in regions])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the proof to a file, which `python -m torch_shallow.check` checks.

        Args:
            path: Path of the file; a name ending in `.gz` makes it compressed.
        """
        target = Path(path)
        with gzip.open(target, "wt", 6) if target.suffix == ".gz" else target.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self.header, separators=(",", ":")) + "\n")
            for node in self.nodes():
                file.write(json.dumps(node, separators=(",", ":")) + "\n")
