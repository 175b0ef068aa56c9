"""The nearest input of which a network says something else, rounding included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.counterfactuals.branch_and_bound import Nearest
from torch_shallow.explain.counterfactuals.constraints import Changes, Feature, Range, read_problem
from torch_shallow.explain.counterfactuals.polish import Polished, attempt, polished
from torch_shallow.explain.counterfactuals.targets import Counterfactual, Target, read_target
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.function import (
    Function,
    input_rows,
    known_function,
    known_network,
    outputs_at,
    read_function,
)
from torch_shallow.explain.searched import Searched
from torch_shallow.functions import TreeFunction, VisitedFunction
from torch_shallow.modes import outside_modes
from torch_shallow.search.runs.budget import check_seconds

if TYPE_CHECKING:
    from torch_shallow.explain.counterfactuals.deep_search import DeepSearch
    from torch_shallow.explain.counterfactuals.nearest_search import NearestSearch

SEARCHED = 1e-9  # what the search leaves out, relative to the distance; rounding to the dtype of x takes the rest
ROUNDING = 8  # units of rounding: a value that changes by less does not change
MOST_DIGITS = 17  # which tell any two numbers apart


@outside_modes
def counterfactual(
    f: nn.Module | ExportedProgram | Callable[[Tensor], Tensor],
    x: Float[Tensor, "*in_shape"],
    target: Target,
    norm: int | float = 2,
    *,
    features: Features | Sequence[str] | None = None,
    fixed: Sequence[Feature] = (),
    lower: Range = None,
    upper: Range = None,
    increasing: Sequence[Feature] = (),
    decreasing: Sequence[Feature] = (),
    integer: Sequence[Feature] = (),
    one_hot: Sequence[Sequence[Feature]] = (),
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
            to enumerate as a whole.
        x: one input.
        target: a class, whose output is then at least that of all others; or `AtLeast`, `AtMost`, `Between` or
            `Linear` for values of outputs, several of them joined by `&`.
        norm: 1, 2 or `math.inf`, of the change of the network's inputs, each times its `scale`.
        features: names of the inputs, and what they were scaled by before the network. All ranges, integers and one-hot
            groups are in these units.
        fixed: features that stay as they are, by name or number.
        lower: least value of each feature: a number for all, one for each, or a dict of some.
        upper: largest values likewise.
        increasing: features that may only grow.
        decreasing: features that may only shrink.
        integer: features with whole values. They are searched one after the other in each region: give them a range
            with `lower` and `upper`, without which a target that no whole numbers reach may be looked for without end.
        one_hot: groups of features of which one is 1 and the others are 0.
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
    known = known_function(f)
    if isinstance(known, VisitedFunction):
        raise TransformError(
            "f: expected a network with a tree of cuts, found one of visited regions, which knows no others; pass the "
            "deep model."
        )
    if not isinstance(x, Tensor):
        raise WrongTypeError(f"x: expected a tensor, found {type(x).__name__}.")
    if not (isinstance(tolerance, int | float | np.number) and 0.0 < tolerance < 1.0):
        raise argument_error(tolerance, int, float, np.number)(
            f"tolerance: expected a number between 0 and 1, found {tolerance!r}."
        )
    if time_limit is not None:
        check_seconds("time_limit", time_limit, " or None")
    asking = Asking(SearchOptions(workers=workers, time_limit=time_limit, progress=progress))
    function = read_function(f, x[None] if known is None else None)
    row = input_rows(function, "x", x)
    if x.shape != function.in_shape:
        raise TransformError(f"x: expected one input of shape {function.in_shape}, found {tuple(x.shape)}.")
    network = None if known is None else known_network(function, name="f")
    names = read_features(features, function.num_inputs)
    problem = read_problem(
        row[0].cpu().numpy(),
        read_target(target, margin, function.num_outputs),
        norm,
        None if network is None else network.domain,
        names,
        fixed=fixed,
        lower=lower,
        upper=upper,
        increasing=increasing,
        decreasing=decreasing,
        integer=integer,
        one_hot=one_hot,
        scale=scale,
    )
    evaluate = _evaluation(function)
    rounding = max(1e-9, 4.0 * torch.finfo(x.dtype).eps)
    here = attempt(problem, np.zeros(len(problem.free)), evaluate, x.dtype)
    search: NearestSearch | DeepSearch
    if here.excess <= 0.0 and here.distance == 0.0 and problem.allows(np.zeros(len(problem.free)), rounding):
        return _result(x, problem, Nearest(None, -1, 0.0), here, network, tolerance, {}, evaluate, asking)
    # Imported here because numba takes a while.
    if network is None:
        from torch_shallow.explain.counterfactuals.deep_search import DeepSearch

        if solver is not None:
            raise TransformError(
                "solver: expected None for a deep network, which is searched by code of its own, found "
                f"{solver!r}; leave it out, or pass the shallow network."
            )
        search = DeepSearch(Searched(function, None), problem, asking)
    else:
        from torch_shallow.explain.counterfactuals.nearest_search import NearestSearch

        search = NearestSearch(network, problem, min(SEARCHED, 0.1 * tolerance), solver, asking)
    nearest = search.run()
    best = polished(search, nearest, evaluate, x.dtype)
    return _result(x, problem, nearest, best, network, tolerance, search.tally, evaluate, asking)


def _evaluation(function: Function) -> Callable[[Tensor], np.ndarray]:
    def evaluate(x: Tensor) -> np.ndarray:
        row = x[None].to(function.device)
        if isinstance(function, TreeFunction):
            with torch.no_grad():
                return function(row.reshape(1, *function.in_shape)).reshape(-1).cpu().numpy()
        return outputs_at(function, row)[0].cpu().numpy()

    return evaluate


def _result(
    x: Tensor,
    problem: Changes,
    nearest: Nearest,
    best: Polished | None,
    network: TreeFunction | None,
    tolerance: float,
    tally: dict[str, int],
    evaluate: Callable[[Tensor], np.ndarray],
    asking: Asking,
) -> Counterfactual:
    effort: dict[str, Any] = {"seconds": asking.seconds, "reason": nearest.reason}
    if best is None:
        return Counterfactual(None, np.inf, nearest.bound, -1, problem.norm, np.inf, tolerance, {}, tally, **effort)
    found = best.x.reshape(x.shape).to(x.device)
    before, after = _values(problem, problem.x, x.dtype), _values(problem, best.x.double().numpy(), x.dtype)
    moved = np.flatnonzero(np.abs(after - before) > _rounding(problem, problem.x, x.dtype))
    region = -1 if network is None else int(network.locate(found[None].to(network.device))[0])
    return Counterfactual(
        found,
        best.distance,
        min(nearest.bound, best.distance),
        region,
        problem.norm,
        best.excess,
        tolerance,
        {problem.features.names[i]: (float(before[i]), float(after[i])) for i in moved},
        tally,
        _outputs(problem, best, evaluate),
        _digits(problem, best, after, moved, evaluate),
        **effort,
    )


def _outputs(
    problem: Changes, best: Polished, evaluate: Callable[[Tensor], np.ndarray]
) -> dict[int, tuple[float, float]]:
    """Before and after, of the outputs that the target is about."""
    before, after = evaluate(torch.from_numpy(problem.x)), evaluate(best.x.double())
    concerned = np.flatnonzero(problem.target.rows.any(axis=0))
    if len(concerned) > 2:
        concerned = np.unique([before.argmax(), after.argmax()])
    return {int(i): (float(before[i]), float(after[i])) for i in concerned}


def _digits(
    problem: Changes,
    best: Polished,
    values: np.ndarray,
    moved: np.ndarray,
    evaluate: Callable[[Tensor], np.ndarray],
) -> int:
    """How many digits of the new values are needed so that the target is reached with them, from 6."""
    for digits in range(6, MOST_DIGITS):
        typed, x = values.copy(), best.x.double().numpy().copy()
        typed[moved] = [float(f"{value:.{digits}g}") for value in values[moved]]
        x[moved] = problem.features.rescale(typed)[moved]
        if problem.target.excess(evaluate(torch.from_numpy(x).to(best.x.dtype).double())) <= max(0.0, best.excess):
            return digits
    return MOST_DIGITS


def _values(problem: Changes, x: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """An input in units of the features; what is a whole number up to the rounding of the dtype is that number."""
    values = problem.features.unscale(x)
    whole = np.rint(values)
    return np.where(np.abs(values - whole) <= _rounding(problem, x, dtype), whole, values)


def _rounding(problem: Changes, x: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    terms: np.ndarray = np.abs(x * problem.features.scale) + np.abs(problem.features.mean)
    return ROUNDING * torch.finfo(dtype).eps * terms
