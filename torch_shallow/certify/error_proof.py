"""A proven bound of what a shallow network is off, on each of its regions, and the lines of the file that proves it."""

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
    """What is proven of a tree function f and its program g: |f - g| <= error at every point of the known regions.

    Both in real arithmetic, on the float64 numbers that they are stored as. `torch_shallow/check.py` has the statement
    and why it holds; the numbers here are float64, rounded outwards.

    Attributes:
        data: the function, the program and the domain as arrays.
        errors: what is proven on each region.
        relative_to_size: the bounds are to be multiplied by 1 + |x|_1, as the domain is not bounded.
        found: the multipliers; None if they were not kept.
        better: what is to be written instead for some neurons at some nodes.
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
        """The region that has it."""
        return int(self.errors.argmax())

    @property
    def unit(self) -> str:
        """What the bounds are to be multiplied by, in words."""
        return " (1 + |x|_1)" if self.relative_to_size else ""

    @cached_property
    def header(self) -> dict[str, Any]:
        """The first line of the file."""
        return self.data.header() | {"error": self.error if np.isfinite(self.error) else None}

    def nodes(self, regions: Int[np.ndarray, "some"] | None = None) -> Iterator[list[Any]]:
        """The lines behind the first: see `torch_shallow/check.py`.

        Args:
            regions: only what is above these is there, and other subtrees are open; all regions if None.

        Raises:
            ValueError: the multipliers were not kept.
        """
        if self.found is None:
            raise ValueError("proof: expected one that was made with keep=True, found one without multipliers.")
        return self.data.nodes(self.found, regions, self.better)

    def exact_errors(self, regions: Int[np.ndarray, "some"]) -> Float[np.ndarray, "some"]:
        """What is proven on some regions in exact arithmetic, with the same multipliers; slower, and less."""
        order = np.unique(regions)
        bounds = {
            leaf: min(check.rounded_up(error), float(self.errors[leaf]))
            for leaf, error in check.bounds_of_leaves(self.header, self.nodes(order))
            if error is not None
        }
        return np.array([bounds[int(region)] for region in regions])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the proof to a file, which `python -m torch_shallow.check` checks; compressed if its name ends so.

        Args:
            path: of the file; `.gz` compresses it.
        """
        target = Path(path)
        with gzip.open(target, "wt", 6) if target.suffix == ".gz" else target.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self.header, separators=(",", ":")) + "\n")
            for node in self.nodes():
                file.write(json.dumps(node, separators=(",", ":")) + "\n")
