"""Which single feature alone reaches a target, and how far it has to go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.display import Displayed
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.counterfactuals.asked_network import read_constraints, read_query
from torch_shallow.explain.counterfactuals.targets import Counterfactual, Target
from torch_shallow.explain.features import Features
from torch_shallow.modes import outside_modes


@dataclass(frozen=True, eq=False, repr=False)
class OneFeatureChanges(Displayed):
    """For each feature, the nearest counterfactual that changes it alone.

    Attributes:
        by_feature: by the names of the features that may change; `x` is None where a feature alone does not reach the
            target.
    """

    by_feature: Mapping[str, Counterfactual]

    @property
    def nearest(self) -> str | None:
        """The feature that has to go least far; None if none reaches the target."""
        reaching = {name: found.distance for name, found in self.by_feature.items() if found.x is not None}
        return min(reaching, key=lambda name: reaching[name], default=None)

    @property
    def proven(self) -> bool:
        """Whether all of it is exact, up to the tolerance."""
        return all(found.proven for found in self.by_feature.values())

    def __str__(self) -> str:
        lines = ["changes of one feature alone:"]
        width = max(map(len, self.by_feature), default=0)
        for name, found in sorted(self.by_feature.items(), key=lambda item: item[1].distance):
            if found.x is None:
                within = f" within {found.bound:.6g}" if found.bound < float("inf") else ""
                lines.append(f"  {name:<{width}}  does not reach it{within}")
                continue
            old, new = found.changes.get(name, (0.0, 0.0))
            lines.append(f"  {name:<{width}}  {old:.6g} -> {new:.{found.digits}g}, at distance {found.distance:.6g}")
        return "\n".join(lines)

    def _line(self) -> str:
        reached = sum(found.x is not None for found in self.by_feature.values())
        return f"{reached} of {len(self.by_feature)} features reach the target alone"


@outside_modes
def one_feature_changes(
    f: nn.Module | ExportedProgram | Callable[[Tensor], Tensor] | Sequence[nn.Module],
    x: Float[Tensor, "*in_shape"],
    target: Target,
    *,
    features: Features | Sequence[str] | None = None,
    margin: int | float = 0.0,
    tolerance: float = 1e-6,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    progress: bool = False,
    **constraints: Any,
) -> OneFeatureChanges:
    """Which single feature alone reaches a target, and how far it must go: a counterfactual along each axis.

    Exact along each line, which is searched in both directions: see `counterfactual`.

    The search along a line goes on until the target is reached or the line ends. Where a feature that has no bounds
    never reaches the target, it may not end: bound the features by `lower`, `upper` or `within`, or set a
    `time_limit`, which tells how far each feature does not reach it.

    Args:
        f: as for `counterfactual`.
        x: one input.
        target: as for `counterfactual`.
        features: likewise.
        margin: likewise.
        tolerance: likewise.
        workers: likewise.
        time_limit: stop after about so many seconds, for all features together, which share it; no limit if None.
        progress: as for `counterfactual`.
        **constraints: `fixed`, `lower`, `upper`, `within`, `increasing`, `decreasing`, `integer`, `one_hot` and `scale`
            of `counterfactual`.

    Raises:
        WrongTypeError: an argument is of another type, or there is no such argument.
        TransformError: as `counterfactual`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torch_shallow.explain import AtLeast, one_feature_changes
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> with torch.no_grad():
        ...     _ = model[0].weight.copy_(torch.eye(2)), model[0].bias.zero_()
        ...     _ = model[2].weight.fill_(1.0), model[2].bias.zero_()
        >>> print(one_feature_changes(model, torch.tensor([1.0, -1.0]), AtLeast(3.0)))  # relu(x0) + relu(x1)
        changes of one feature alone:
          x0  1 -> 3, at distance 2
          x1  -1 -> 2, at distance 3
    """
    limits = read_constraints(constraints)
    asking = Asking(SearchOptions(workers=workers, time_limit=time_limit, progress=progress))
    asked, problem = read_query(f, x, target, 1, features, margin, tolerance, None, limits)
    found: dict[str, Counterfactual] = {}
    for entry in range(len(problem.free)):
        part = asking.part(len(problem.free) - entry)
        alone = problem.only(np.array([entry]))
        name = problem.features.names[problem.free[entry]]
        if alone is None:
            found[name] = Counterfactual(None, float("inf"), float("inf"), -1, 1.0, float("inf"), tolerance, {})
            continue
        found[name] = asked.nearest(alone, part)
        asking.add(part)
    return OneFeatureChanges(found)
