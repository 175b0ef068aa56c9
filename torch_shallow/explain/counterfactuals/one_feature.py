"""Counterfactuals that change a single feature."""

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
    """The nearest counterfactual that changes a single feature, for each feature.

    Attributes:
        by_feature: the counterfactuals by the names of the features that may change; `x` is None where a feature alone
            does not reach the target.
    """

    by_feature: Mapping[str, Counterfactual]

    @property
    def nearest(self) -> str | None:
        """The feature with the smallest distance; None if no feature alone reaches the target."""
        reaching = {name: found.distance for name, found in self.by_feature.items() if found.x is not None}
        return min(reaching, key=lambda name: reaching[name], default=None)

    @property
    def proven(self) -> bool:
        """Whether all results are exact, up to the tolerance."""
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
    """Find which single features reach a target alone, and how far each must go.

    Each feature is searched along its axis in both directions, exactly. A search goes on until the target is reached or
    the range of the feature ends. An unbounded feature that never reaches the target may be searched forever: bound the
    features by `lower`, `upper` or `within`, or set a `time_limit`; the result then states up to which distance each
    feature does not reach the target.

    Args:
        f: a complete shallow network; `shallow.trunk` of one that has a head; a deep model of any size; or a list of
            deep models, all of which have to reach the target.
        x: one input, of shape `in_shape`.
        target: a class, whose output must be at least all others; or `AtLeast`, `AtMost`, `Between` or `Linear` for
            values of outputs, possibly several joined by `&`.
        features: names of the entries of the flattened input, or `Features` that also give their units.
        margin: by how much the output of the class has to exceed the others.
        tolerance: relative difference between distance and bound for which a result counts as proven.
        workers: for a deep network, a number of threads, or any `concurrent.futures.Executor`.
        time_limit: time in seconds for all features together, after which the search is stopped; no limit if None.
        progress: for a deep network, show a bar for each search.
        **constraints: `fixed`, `lower`, `upper`, `within`, `increasing`, `decreasing`, `integer`, `one_hot` and
            `scale`, with the same meaning as in `torch_shallow.explain.counterfactual`.

    Returns:
        A `OneFeatureChanges`, whose `by_feature` maps the name of each feature to its `Counterfactual`.

    Raises:
        WrongTypeError: an argument is of another type, or there is no such argument.
        TransformError: an argument has a wrong value, the constraints contradict each other, or the network is
            incomplete or cannot be read.

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
