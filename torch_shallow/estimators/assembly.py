"""Build a network of linear layers, ReLUs and clips from affine functions of columns and the layers of a predictor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from torch_shallow.estimators.column_table import Clip, ColumnTable, Source
from torch_shallow.estimators.predictors import Predictor


class Clipped(nn.Module):
    """Clip each entry to its own range, which may be infinite."""

    lower: Tensor
    upper: Tensor

    def __init__(self, lower: Tensor, upper: Tensor) -> None:
        super().__init__()
        self.register_buffer("lower", lower)
        self.register_buffer("upper", upper)

    def forward(self, x: Tensor) -> Tensor:
        """Clip a batch of entries."""
        return x.clamp(self.lower, self.upper)


def assemble(
    inputs: Sequence[Source], clips: Sequence[Clip], table: ColumnTable, predictor: Predictor
) -> nn.Sequential:
    """Build the network of a table of columns and a predictor.

    Affine steps become part of the layer after them. Where columns are clipped, a linear layer computes them, together
    with the sources needed later, and a clip follows.

    Args:
        inputs: inputs of the network, in order.
        clips: clipped columns.
        table: the columns that the predictor receives.
        predictor: layers and head of the predictor.
    """
    modules: list[nn.Module] = []
    sources = list(inputs)
    for depth in range(1, max((clip.depth for clip in clips), default=0) + 1):
        now = [clip for clip in clips if clip.depth == depth]
        later = [table, *(clip.table for clip in clips if clip.depth > depth)]
        needed = {source for each in later for source in each.used}
        kept = [source for source in sources if source in needed]
        made = [("clip", number, 0) for clip in now for number in clip.numbers]
        weight = [_over(sources, ColumnTable.of_sources(kept)), *(_over(sources, clip.table) for clip in now)]
        bias = [np.zeros(len(kept)), *(clip.table.bias for clip in now)]
        free = np.full(len(kept), np.inf)
        bounds = [np.concatenate(ends) for ends in ([-free, *(c.lower for c in now)], [free, *(c.upper for c in now)])]
        modules += [_linear(np.concatenate(weight), np.concatenate(bias)), Clipped(*map(torch.from_numpy, bounds))]
        sources = [*kept, *made]
    (weight_, bias_), *others = predictor.layers
    modules.append(_linear(weight_ @ _over(sources, table), weight_ @ table.bias + bias_))
    for layer in others:
        modules += [nn.ReLU(), _linear(*layer)]
    if predictor.head is not None:
        modules.append(predictor.head)
    return nn.Sequential(*modules)


def _over(sources: Sequence[Source], table: ColumnTable) -> np.ndarray:
    """Return the weights of a table with respect to these sources; it uses no others."""
    weight = np.zeros((len(table), len(sources)))
    place = {source: i for i, source in enumerate(sources)}
    for column, source in enumerate(table.sources):
        if source in place:
            weight[:, place[source]] = table.weight[:, column]
    return weight


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))
    return linear
