"""The nearest input of which a network says something else, rounding included."""

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
    """The nearest input that reaches a class or an output value, with the bound that proves that nothing is nearer.

    Cells of the tree of cuts of a shallow network are opened from near to far, by proven lower bounds of the distance,
    and in each region that is left a linear or quadratic program is solved. A deep network of any size is searched as
    it is, in balls around `x` that grow until nothing nearer can be outside of them. Whenever that is stopped, by a
    time limit or Ctrl-C, the distance lies between `lower_bound` and `upper_bound`.

    Exact for the trunk and for closed regions, up to `tolerance`. Of a network that was trained as a shallow one, and
    jumps between regions, the bound is that of the closed regions, and `x` is moved into the one where it is reached.
    `x` reaches the target in the shallow network. On its very boundary the deep model, which rounds otherwise, may miss
    it by rounding: ask for a little more (`margin`, or in the value) where that matters.

    The method is complete: if it finds none, there is none in the domain and within `bound`.

    Args:
        f: a complete shallow network; `shallow.trunk` of one that has a head; or a deep model, which may be too large
            to enumerate as a whole; or a list of deep models, all of which have to reach the target.
        x: one input.
        target: a class, whose output is then at least that of all others; or `AtLeast`, `AtMost`, `Between` or
            `Linear` for values of outputs, several of them joined by `&`.
        norm: 1, 2 or `math.inf`, of the change of the network's inputs, each times its `scale`.
        features: names of the inputs, and what they were scaled by before the network. All ranges, integers and one-hot
            groups are in these units.
        fixed: features that stay as they are, by name or number.
        lower: least value of each feature: a number for all, one for each, or a dict of some.
        upper: largest values likewise.
        within: a `Box` or a `Polytope` of values of the features, such as where data are, or linear relations between
            features: `Polytope(A, b)` for `A @ values <= b`.
        increasing: features that may only grow.
        decreasing: features that may only shrink.
        integer: features with whole values. They are searched one after the other in each region: give them a range
            with `lower` and `upper`, without which a target that no whole numbers reach may be looked for without end.
        one_hot: groups of features of which one is 1 and the others are 0; if None, those that are categories of one
            column, as features of `from_sklearn` know them.
        scale: how much a change of each of the network's inputs by 1 counts, as `lower`: positive. With the scale of a
            scaler, the distance is measured in units of the features.
        margin: by how much the output of the class has to exceed the others.
        tolerance: how much nearer a counterfactual might be, relative to the distance, for `proven` to be true.
        solver: a name in `cvxpy.installed_solvers()` for the programs of regions, slow and as a reference; compiled
            code if None. Bounds are computed from multipliers, whoever finds them. Of shallow networks only.
        workers: for a deep network, a number of threads, or any `concurrent.futures.Executor`.
        time_limit: stop after about so many seconds; no limit if None.
        progress: for a deep network, show a bar for each ball.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument is of the wrong kind, constraints contradict each other whatever the network says,
            the network is not complete, or as `transform`.

    Example:
        >>> import torch, torch_shallow
        >>> from torch import nn
        >>> from torch_shallow.explain.counterfactuals import AtLeast, counterfactual
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
