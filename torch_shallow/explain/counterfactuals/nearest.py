"""The nearest input for which a network gives another answer, safe against rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.counterfactuals.asked_network import read_query
from torch_shallow.explain.counterfactuals.constraints import Feature, Range
from torch_shallow.explain.counterfactuals.targets import Counterfactual, Target
from torch_shallow.explain.features import Features
from torch_shallow.modes import outside_modes


@outside_modes
def counterfactual(
    f: nn.Module | ExportedProgram | Callable[[Tensor], Tensor] | Sequence[nn.Module],
    x: Float[Tensor, "*in_shape"],
    target: Target,
    norm: int | float = 2,
    *,
    features: Features | Sequence[str] | None = None,
    fixed: Sequence[Feature] = (),
    lower: Range = None,
    upper: Range = None,
    within: Domain | None = None,
    increasing: Sequence[Feature] = (),
    decreasing: Sequence[Feature] = (),
    integer: Sequence[Feature] = (),
    one_hot: Sequence[Sequence[Feature]] | None = None,
    scale: Range = None,
    margin: int | float = 0.0,
    tolerance: float = 1e-6,
    solver: str | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    progress: bool = False,
) -> Counterfactual:
    """Find the nearest input that reaches a class or an output value, with a bound that proves that nothing is nearer.

    For a shallow network, cells of its tree of cuts are opened from near to far, by proven lower bounds on their
    distance, and a linear or quadratic program is solved in each region that remains. A deep network of any size is
    searched directly, in balls around `x` that grow until nothing outside can be nearer. If the search is stopped by a
    time limit or Ctrl-C, the distance lies between `lower_bound` and `upper_bound`. If a finished search finds no
    counterfactual, there is none in the domain and within `bound`.

    The result is exact for the trunk and for closed regions, up to `tolerance`. If a network was trained as a shallow
    one and jumps between regions, the bound applies to the closed regions, and `x` is moved into the one where it is
    reached. `x` reaches the target in the shallow network; directly on the boundary of the target, the deep model may
    miss it because it rounds differently. Where that matters, use a small `margin`, or tighten the value.

    Args:
        f: a complete shallow network; `shallow.trunk` of one that has a head; a deep model, which may be too large to
            enumerate; or a list of deep models, all of which have to reach the target.
        x: one input, of shape `in_shape`.
        target: a class, whose output must be at least all others; or `AtLeast`, `AtMost`, `Between` or `Linear` for
            values of outputs, possibly several joined by `&`.
        norm: norm of the change of the network's inputs, each times its `scale`: 1, 2 or `math.inf`.
        features: names of the entries of the flattened input, or `Features` that also give their units. All ranges,
            integers and one-hot groups are in these units.
        fixed: names or numbers of features that must not change.
        lower: smallest value of each feature: one number for all, one for each, or a dict for some.
        upper: largest value of each feature, in the same form.
        within: a `Box` or a `Polytope` that must contain the values of the features, such as the range of the data, or
            linear relations between features, `Polytope(A, b)` for `A @ values <= b`.
        increasing: features that may only increase.
        decreasing: features that may only decrease.
        integer: features with integer values. They are searched one after the other in each region; give them a range
            by `lower` and `upper`, because a target that no integers reach may otherwise be searched for forever.
        one_hot: groups of features of which one is 1 and the others are 0; if None, the categories of each column,
            which `from_sklearn` records in `features`.
        scale: cost of a change of each of the network's inputs by 1, positive, in the form of `lower`. With the scale
            of a scaler, the distance is measured in units of the features.
        margin: by how much the output of the class has to exceed the others.
        tolerance: relative difference between distance and bound for which the result counts as proven.
        solver: for a shallow network, a name in `cvxpy.installed_solvers()` for the programs of regions, as a slow
            reference; compiled code if None. Bounds are computed from the multipliers in either case.
        workers: for a deep network, a number of threads, or any `concurrent.futures.Executor`.
        time_limit: time in seconds after which the search is stopped; no limit if None.
        progress: for a deep network, show a bar for each ball.

    Returns:
        A `Counterfactual`, whose `x` is None if there is none.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument has a wrong value, the constraints contradict each other whatever the network
            computes, or the network is incomplete or cannot be read.

    Example:
        >>> import torch, torch_shallow
        >>> from torch import nn
        >>> from torch_shallow.explain import AtLeast, counterfactual
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> with torch.no_grad():
        ...     _ = model[0].weight.copy_(torch.eye(2)), model[0].bias.zero_()
        ...     _ = model[2].weight.fill_(1.0), model[2].bias.zero_()
        >>> shallow = torch_shallow.transform(model)  # relu(x0) + relu(x1)
        >>> print(counterfactual(shallow, torch.tensor([1.0, -1.0]), AtLeast(3.0), norm=1))
        L1 distance 2, nothing is nearer than 2
          x0  1 -> 3
        output 0: 1 -> 3
    """
    limits: dict[str, Any] = {"lower": lower, "upper": upper, "within": within, "scale": scale}
    limits |= {
        "fixed": fixed,
        "increasing": increasing,
        "decreasing": decreasing,
        "integer": integer,
        "one_hot": one_hot,
    }
    asking = Asking(SearchOptions(workers=workers, time_limit=time_limit, progress=progress))
    asked, problem = read_query(f, x, target, norm, features, margin, tolerance, solver, limits)
    return asked.nearest(problem, asking)
