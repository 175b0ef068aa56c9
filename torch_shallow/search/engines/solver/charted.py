"""A program in chart coordinates, and the composition of its stages under a pattern, in plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int8

from torch_shallow.geometry.chart import Chart
from torch_shallow.program.relu_program import ReLUProgram


@dataclass(frozen=True)
class ChartedStage:
    """One stage, its input part pulled back to the chart.

    Attributes:
        inputs: the input part and the bias, acting on homogeneous coordinates (v, t).
        hidden: the part that acts on the neurons of earlier stages.
        input_sizes: size of the terms that each row of `inputs` was added up from.
        hidden_norms: norms of the rows of `hidden`.
    """

    inputs: Float[np.ndarray, "neurons dimension"]
    hidden: Float[np.ndarray, "neurons before"]
    input_sizes: Float[np.ndarray, "neurons"]
    hidden_norms: Float[np.ndarray, "neurons"]

    def compose(
        self,
        sources: Float[np.ndarray, "before dimension"],
        sizes: Float[np.ndarray, "before"],
        cancellation: float = 1e-3,
    ) -> tuple[Float[np.ndarray, "neurons dimension"], Float[np.ndarray, "neurons"]]:
        """The pre-activations as rows over (v, t), and the sizes against which their values are measured.

        Args:
            sources: rows of the earlier neurons, zero where inactive.
            sizes: sizes of the earlier neurons, zero where inactive.
            cancellation: a row shorter than this, relative to the terms it was added up from, is measured against
                the terms instead: most of what is left of it may be rounding.
        """
        rows = self.inputs + self.hidden @ sources
        terms = self.hidden_norms * np.linalg.norm(sizes) + self.input_sizes
        return rows, np.maximum(np.linalg.norm(rows, axis=1), cancellation * terms)


@dataclass(frozen=True)
class Composed:
    """A pattern of the first stages, and the next stage composed on it.

    Attributes:
        pattern: of all neurons before the stage: 1 active, 0 inactive.
        sources: rows over (v, t) of all neurons before the stage, zero where inactive.
        source_sizes: their sizes, zero where inactive.
        rows: the stage's pre-activations as rows over (v, t); none behind the last stage.
        sizes: what the values of `rows` are measured against.
    """

    pattern: Int8[np.ndarray, "before"]
    sources: Float[np.ndarray, "before dimension"]
    source_sizes: Float[np.ndarray, "before"]
    rows: Float[np.ndarray, "neurons dimension"]
    sizes: Float[np.ndarray, "neurons"]

    @cached_property
    def scaled(self) -> Float[np.ndarray, "neurons dimension"]:
        """The rows, divided by their sizes."""
        return self.rows / np.where(self.sizes > 0.0, self.sizes, 1.0)[:, None]


@dataclass(frozen=True)
class ChartedProgram:
    """The stages of a program over the coordinates of a chart.

    Attributes:
        stages: the stages in order.
        offsets: number of the first neuron of each stage, and the number of neurons at the end.
        num_coordinates: dimension of the chart.
    """

    stages: tuple[ChartedStage, ...]
    offsets: tuple[int, ...]
    num_coordinates: int

    @staticmethod
    def of(program: ReLUProgram, chart: Chart) -> ChartedProgram:
        """Pull a program back to a chart."""
        d, stages = program.num_inputs, []
        for stage in program.stages:
            weight, hidden = stage.weight[:, :d], stage.weight[:, d:]
            sizes = np.abs(weight) @ np.abs(chart.origin) + np.abs(stage.bias)
            stages.append(
                ChartedStage(
                    chart.pull_back(weight, stage.bias),
                    hidden,
                    sizes + np.linalg.norm(weight @ chart.directions.T, axis=1),
                    np.linalg.norm(hidden, axis=1),
                )
            )
        return ChartedProgram(tuple(stages), program.offsets, chart.num_coordinates)

    def begin(self) -> Composed:
        """The first stage."""
        return self._next(np.zeros(0, dtype=np.int8), np.zeros((0, self.num_coordinates + 1)), np.zeros(0), 0)

    def advance(self, before: Composed, stage: int, status: Int8[np.ndarray, "neurons"]) -> Composed:
        """The stage after `stage`, composed on `before` and the pattern `status` of `stage`."""
        active = status == 1
        return self._next(
            np.concatenate([before.pattern, status]),
            np.concatenate([before.sources, np.where(active[:, None], before.rows, 0.0)]),
            np.concatenate([before.source_sizes, np.where(active, before.sizes, 0.0)]),
            stage + 1,
        )

    def _next(self, pattern: np.ndarray, sources: np.ndarray, sizes: np.ndarray, stage: int) -> Composed:
        if stage == len(self.stages):
            return Composed(pattern, sources, sizes, np.zeros((0, self.num_coordinates + 1)), np.zeros(0))
        return Composed(pattern, sources, sizes, *self.stages[stage].compose(sources, sizes))
