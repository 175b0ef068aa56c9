"""The half-spaces of one region, with their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torch_shallow.modes import outside_modes

if TYPE_CHECKING:
    from torch_shallow.modules.shallow_relu import ShallowReLU


@dataclass(frozen=True, eq=False)
class RegionHalfSpaces:
    """The half-spaces `A x <= b` of a region, over flattened inputs.

    Attributes:
        A: float64, not scaled: the row of a cut is plus or minus the pre-activation of its neuron.
        b: float64.
        neurons: the neuron that makes each row, numbered through all stages of the whole network; -1 for the domain.
        names: each row in words, such as `"stage 1 neuron 3 active"` (stages are counted from 1, the neurons of a stage
            from 0) or `"domain"`.
    """

    A: Float[Tensor, "rows inputs"]
    b: Float[Tensor, "rows"]
    neurons: Int64[Tensor, "rows"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"RegionHalfSpaces(A x <= b in {self.A.shape[1]} inputs, {len(self)} rows: {', '.join(self.names)})"

    def numpy(self) -> tuple[Float[np.ndarray, "rows inputs"], Float[np.ndarray, "rows"]]:
        """`A` and `b` as arrays."""
        return self.A.cpu().numpy(), self.b.cpu().numpy()

    def pick(self, rows: Bool[Tensor, "rows"]) -> RegionHalfSpaces:
        """Only some of the rows."""
        names = tuple(name for name, keep in zip(self.names, rows.tolist(), strict=True) if keep)
        return RegionHalfSpaces(self.A[rows], self.b[rows], self.neurons[rows], names)


@outside_modes
def region_half_spaces(shallow: ShallowReLU, region: int) -> RegionHalfSpaces:
    """The cuts on a region's path, root first, then the domain."""
    partition, layer = shallow.partition, shallow.half_spaces
    steps = partition.path(region)
    cuts, like = [cut for cut, _ in steps], layer.offsets
    sign = torch.tensor([-1.0 if side else 1.0 for _, side in steps], dtype=like.dtype, device=like.device)
    normals = layer.normals[cuts] if layer.projection is None else layer.normals[cuts] @ layer.projection
    a, b = (torch.tensor(array, device=like.device) for array in partition.domain.inequalities(partition.in_shape))
    neurons = torch.cat([torch.tensor(partition.neurons(cuts), dtype=torch.int64), torch.full((len(b),), -1)])
    return RegionHalfSpaces(
        torch.cat([sign[:, None] * normals, a]),
        torch.cat([-sign * like[cuts], b]),
        neurons.to(like.device),
        (*partition.names(steps), *["domain"] * len(b)),
    )
