"""A time limit is kept: walks look at the clock often, and what a network takes is measured before there are many."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from torch_shallow import Box, IncompleteWarning, transform
from torch_shallow.search.growing_tree import Growth, Piece
from torch_shallow.search.runs.watch import FinishingTime
from torch_shallow.search.task_output import (
    CUT_ROWS,
    MOST_CUT_ROWS,
    MOST_REGION_ROWS,
    NUM_COUNTS,
    REGION_ROWS,
    Harvest,
    Quota,
)


def room_after(calls: list[tuple[int, int]]) -> tuple[int, int]:
    """How many cuts and regions a walk may find at once, after calls that found so many and took no time."""
    harvest, counts = Harvest(Quota()), np.zeros(NUM_COUNTS, dtype=np.int64)
    for cuts, regions in calls:
        found = harvest.room(counts, 1, 1)
        found.cut_parents[:] = found.region_parents[:] = -1
        counts[CUT_ROWS] = min(counts[CUT_ROWS] + cuts, counts[MOST_CUT_ROWS])
        counts[REGION_ROWS] = min(counts[REGION_ROWS] + regions, counts[MOST_REGION_ROWS])
        harvest.take("rays", found, counts)
    harvest.room(counts, 1, 1)
    return counts[MOST_CUT_ROWS] - counts[CUT_ROWS], counts[MOST_REGION_ROWS] - counts[REGION_ROWS]


def test_cuts_that_took_no_time_say_nothing_of_regions() -> None:
    assert room_after([(1 << 15, 0)] * 9)[1] == 1
    assert room_after([(1 << 15, 0)] * 9)[0] > 1000
    assert room_after([(0, 1 << 15)] * 9)[1] > 1000


def test_regions_at_most_treble_between_two_measures_of_what_a_network_of_them_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, call = [0], FinishingTime.__call__

    def noted(self: FinishingTime, growth: Growth, piece: Piece) -> None:
        before = self.budget.finishing
        call(self, growth, piece)
        assert self.budget.finishing >= before
        known.append(growth.num_regions)

    monkeypatch.setattr(FinishingTime, "__call__", noted)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
    with pytest.warns(IncompleteWarning, match="time_limit"):
        transform(model, domain=Box(-1.0, 1.0), time_limit=1.0)
    assert all(after <= max(before + 1024, 3 * before) for before, after in pairwise(known))
