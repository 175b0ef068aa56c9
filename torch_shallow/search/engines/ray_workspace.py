"""Workspace of the pruned walk: the question in compiled form, the stack of cells, and all scratch arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.bounds.difference_lines import neuron_pairs
from torch_shallow.bounds.dual_ascent import BoundRoom
from torch_shallow.bounds.linear_rows import ALLOWANCE
from torch_shallow.bounds.multipliers import Descent
from torch_shallow.bounds.packed_layers import PackedLayers, intervals, spans, transposed
from torch_shallow.bounds.preactivations import BoxBounds
from torch_shallow.bounds.staged import StagedNetwork
from torch_shallow.errors import TransformError
from torch_shallow.geometry.chart import make_chart
from torch_shallow.geometry.rays.cone import NEED_WORDS
from torch_shallow.geometry.rays.storage import grown, intersection
from torch_shallow.program.relu_program import ReLUProgram, Stage
from torch_shallow.search.engines.bounded_cells import DEPTH, NUM_COLUMNS, POOL_TOP, RAYS, SPENT, STEP, BoundedStack
from torch_shallow.search.problem import pack
from torch_shallow.search.question import OpenCell, Posed
from torch_shallow.search.task_output import NEED_FRAMES

MOST_CORNERS = 1 << 14  # engines that do not enumerate vertices handle boxes with more


class RayWorkspace:
    """A question in the coordinates of its chart, with the arrays in which its cells are walked.

    Args:
        posed: The question.
        tolerance: What counts as zero, relative to sizes.

    Raises:
        TransformError: The domain is not bounded, or is a box with too many corners.
    """

    def __init__(self, posed: Posed, tolerance: float) -> None:
        self.num_goals = posed.num_goals
        self.chart = make_chart(_with_outputs(posed.program), posed.domain)  # outputs may read the input directly
        self.network = pack(_with_outputs(posed.program.balanced), self.chart)
        if self.chart.num_corners > MOST_CORNERS:
            raise TransformError(
                f"domain: expected a box of at most {MOST_CORNERS} corners, found one of {self.chart.num_coordinates} "
                "inputs that count; fix some of them, or ask an engine that walks over half-spaces."
            )
        self.storage, (lines, rays, self.pool_top), used = intersection(self.chart.inequalities, tolerance)
        cones = self.storage.cones
        vertices = cones.pool[cones.ids[:rays]]
        if lines or (vertices[:, -1] <= 0.0).any():
            raise TransformError(
                "domain: expected a bounded box or polytope, found one that reaches to infinity; bound all inputs."
            )
        self.domain = rays, cones.ids[:rays].copy(), cones.sets[:rays].copy(), used
        self.vertices = vertices[:, :-1] / vertices[:, -1:]
        self.low, self.high = intervals(self.network, np.column_stack([self.vertices, np.ones(rays)]))
        network, dimension = self.network, self.chart.num_coordinates + 1
        size, neurons = int(network.offsets[-1]), int(network.offsets[-2])
        pairs = neuron_pairs(posed.program.pairs_of(0, neurons), network.offsets)
        rest = np.zeros((len(network.sizes), size * dimension))
        self.layers = PackedLayers(network, transposed(network), *spans(network), rest, pairs, _sizes(posed))
        self.stack = BoundedStack(
            np.zeros((256, NUM_COLUMNS), dtype=np.int64),
            np.zeros(256),
            np.zeros((256, neurons)),
            np.zeros((256, neurons)),
            np.zeros((256, neurons)),
            np.zeros((256, size - neurons)),
            np.zeros((256, len(pairs.first))),
            np.zeros((256, len(pairs.first))),
            np.zeros((256, self.storage.words), dtype=np.uint64),
            np.zeros(size * dimension),
            np.zeros(size),
            np.zeros(size, dtype=np.uint8),
            np.zeros(1, dtype=np.int64),
        )
        self.room = self._bound_room(len(self.storage.scratch.values))

    def _bound_room(self, rays: int) -> BoundRoom:
        dimension, size = self.chart.num_coordinates + 1, int(self.network.offsets[-1])
        row, before, state, gradient, default = np.zeros((5, size))
        linear, point, centre, mixture, candidate = np.zeros((5, dimension))
        points, values = np.zeros((dimension, rays)), np.zeros(max(rays, size))
        active = np.zeros(size, dtype=np.int64)
        return BoundRoom(
            *(points, values, row, before, state, gradient, linear, point, active, centre, mixture, candidate, default),
            np.zeros(1),
        )

    @property
    def outputs(self) -> int:
        """Number of the first output; outputs are numbered after the neurons."""
        return int(self.network.offsets[-2])

    @property
    def goals(self) -> slice:
        """Numbers of the goals, as a slice."""
        return slice(self.outputs, self.outputs + self.num_goals)

    def begin(self, bound: float) -> None:
        """Put the whole domain on the stack."""
        stack = self.stack
        rays, ids, sets, used = self.domain
        cones, neurons = self.storage.cones, self.outputs
        cones.ids[:rays] = ids
        cones.sets[:rays] = 0
        cones.sets[:rays, : sets.shape[1]] = sets
        stack.frames[0] = 0
        stack.frames[0, [RAYS, STEP, POOL_TOP]] = rays, -1, self.pool_top
        stack.used[0] = 0
        stack.used[0, : len(used)] = used
        stack.pool_top[0] = self.pool_top
        stack.bound[0] = bound
        stack.low[0], stack.high[0] = self.low[:neurons], self.high[:neurons]
        stack.slopes[0] = self.high[:neurons] > -self.low[:neurons]
        stack.weights[0] = 1.0 / len(stack.weights[0])
        pairs = self.layers.pairs
        stack.nearest[0] = self.low[pairs.second] - self.high[pairs.first]
        stack.furthest[0] = self.high[pairs.second] - self.low[pairs.first]

    def grow(self, status: int) -> None:
        """Make the room that the walk has asked for."""
        stack = self.stack
        if status == NEED_FRAMES:
            self.stack = stack.replaced(
                frames=grown(stack.frames),
                bound=grown(stack.bound),
                low=grown(stack.low),
                high=grown(stack.high),
                slopes=grown(stack.slopes),
                weights=grown(stack.weights),
                nearest=grown(stack.nearest),
                furthest=grown(stack.furthest),
                used=grown(stack.used),
            )
            return
        self.storage.grow(status)
        if status == NEED_WORDS:
            self.stack = stack.replaced(used=grown(stack.used, axis=1))
        self.room = self._bound_room(len(self.storage.scratch.values))

    def left_open(self, top: int) -> list[OpenCell]:
        """Return the cells on the stack with their paths, read off the spent cells below them."""
        stack = self.stack
        path: list[int] = []
        cells: list[OpenCell] = []
        for index in range(top + 1):
            frame = stack.frames[index]
            del path[max(0, int(frame[DEPTH]) - 1) :]
            steps = [*path, int(frame[STEP])] if frame[DEPTH] else []
            if frame[SPENT]:
                path = steps
            else:
                cells.append(OpenCell(np.array(steps, dtype=np.int32), float(stack.bound[index])))
        return cells

    def vertices_of(self, top: int) -> Float[np.ndarray, "vertices coordinates"]:
        """Return the vertices of the top cell, which the walk has just gathered."""
        return self.room.points[:-1, : int(self.stack.frames[top, RAYS])].T

    def leaf(
        self, top: int
    ) -> tuple[Float[np.ndarray, "coordinates vertices"], Float[np.ndarray, "rows vertices"], float]:
        """Return the vertices of a cell with one affine map, the outputs there, and the outward shift of its bounds."""
        maps = self.stack.maps[self.outputs * (self.chart.num_coordinates + 1) :]
        maps = maps.reshape(self.chart.num_coordinates + 1, -1)
        points = self.room.points[:, : int(self.stack.frames[top, RAYS])]
        return points[:-1], maps.T @ points, float(ALLOWANCE * np.abs(maps).sum(axis=0).max())


def _sizes(posed: Posed) -> Float[np.ndarray, "values"]:
    """Return how large the terms of each neuron and output may be: the scale of rounding where they cancel."""
    program = posed.program.balanced
    if posed.program.pairs is None:
        return np.zeros(program.num_neurons + program.num_outputs)
    network = StagedNetwork.of(program, *bounding_box(posed.domain, program.in_shape))
    return torch.cat(BoxBounds.of(network, Descent(0)).sizes).numpy()


def _with_outputs(program: ReLUProgram) -> ReLUProgram:
    """Return the program with its outputs as one more stage."""
    return replace(program, stages=(*program.stages, Stage("", program.out_weight, program.out_bias)))
