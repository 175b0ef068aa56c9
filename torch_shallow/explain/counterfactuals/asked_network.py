"""Network and input that are asked for counterfactuals, and the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.explain.asking import Asking
from torch_shallow.explain.counterfactuals.branch_and_bound import Nearest
from torch_shallow.explain.counterfactuals.constraints import Changes, read_problem
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
from torch_shallow.explain.nearby.target_rows import TargetRows
from torch_shallow.explain.searched import Searched
from torch_shallow.functions import TreeFunction, VisitedFunction
from torch_shallow.program.joint import Joint

if TYPE_CHECKING:
    from torch_shallow.explain.counterfactuals.deep_search import DeepSearch
    from torch_shallow.explain.counterfactuals.nearest_search import NearestSearch

SEARCHED = 1e-9  # relative distance that the search may leave out; rounding to the dtype of x takes the rest
ROUNDING = 8  # units of rounding: smaller changes of a value do not count
MOST_DIGITS = 17  # enough to distinguish any two numbers


@dataclass(frozen=True, eq=False)
class AskedNetwork:
    """A network, and the input in question.

    Attributes:
        x: the input.
        function: the function that the network computes.
        network: the function with all of its regions, if they are known.
        tolerance: tolerance of `proven`.
        solver: CVXPY solver for the programs of regions; compiled code if None.
    """

    x: Float[Tensor, "*in_shape"]
    function: Function
    network: TreeFunction | None
    tolerance: float
    solver: str | None

    def nearest(self, problem: Changes, asking: Asking) -> Counterfactual:
        """Find the nearest counterfactual of one problem."""
        x, evaluate = self.x, _evaluation(self.function)
        stays = np.zeros(len(problem.free))
        here = attempt(problem, stays, evaluate, x.dtype)
        rounding = max(1e-9, 4.0 * torch.finfo(x.dtype).eps)
        if here.excess <= 0.0 and here.distance == 0.0 and problem.allows(stays, rounding):
            return self._result(problem, Nearest(None, -1, 0.0), here, {}, evaluate, asking)
        search = self._search(problem, asking)
        nearest = search.run()
        best = polished(search, nearest, evaluate, x.dtype)
        return self._result(problem, nearest, best, search.tally, evaluate, asking)

    def _search(self, problem: Changes, asking: Asking) -> NearestSearch | DeepSearch:
        # Imported here because numba takes a while to import.
        if self.network is None:
            from torch_shallow.explain.counterfactuals.deep_search import DeepSearch
            from torch_shallow.explain.counterfactuals.line_search import LineSearch, is_a_line

            kind = LineSearch if is_a_line(problem) else DeepSearch
            return kind(Searched(self.function, None), problem, asking)
        from torch_shallow.explain.counterfactuals.nearest_search import NearestSearch

        return NearestSearch(self.network, problem, min(SEARCHED, 0.1 * self.tolerance), self.solver, asking)

    def _result(
        self,
        problem: Changes,
        nearest: Nearest,
        best: Polished | None,
        tally: dict[str, int],
        evaluate: Callable[[Tensor], np.ndarray],
        asking: Asking,
    ) -> Counterfactual:
        x = self.x
        effort: dict[str, Any] = {"seconds": asking.seconds, "reason": nearest.reason}
        if best is None:
            return Counterfactual(
                None, np.inf, nearest.bound, -1, problem.norm, np.inf, self.tolerance, {}, tally, **effort
            )
        found = best.x.reshape(x.shape).to(x.device)
        before, after = _values(problem, problem.x, x.dtype), _values(problem, best.x.double().numpy(), x.dtype)
        moved = np.flatnonzero(np.abs(after - before) > _rounding(problem, problem.x, x.dtype))
        region = -1 if self.network is None else int(self.network.locate(found[None].to(self.network.device))[0])
        return Counterfactual(
            found,
            best.distance,
            min(nearest.bound, best.distance),
            region,
            problem.norm,
            best.excess,
            self.tolerance,
            {problem.features.names[i]: (float(before[i]), float(after[i])) for i in moved},
            tally,
            _outputs(problem, best, evaluate),
            _digits(problem, best, after, moved, evaluate),
            **effort,
        )


def read_constraints(given: Mapping[str, Any]) -> dict[str, Any]:
    """All constraints of `counterfactual`, with defaults for those that are not given.

    Raises:
        WrongTypeError: there is no such constraint.
    """
    nothing: dict[str, Any] = dict.fromkeys(("fixed", "increasing", "decreasing", "integer"), ())
    nothing |= dict.fromkeys(("lower", "upper", "within", "one_hot", "scale"))
    unknown = sorted(set(given) - set(nothing))
    if unknown:
        raise WrongTypeError(
            f"{unknown[0]}: expected one of the constraints {', '.join(sorted(nothing))}, found another; leave it out."
        )
    return nothing | dict(given)


def read_query(
    f: object,
    x: object,
    target: Target,
    norm: int | float,
    features: Features | Sequence[str] | None,
    margin: int | float,
    tolerance: float,
    solver: str | None,
    limits: Mapping[str, Any],
) -> tuple[AskedNetwork, Changes]:
    """Read the network and the constraints, as documented for `counterfactual`.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument has a wrong value, the constraints contradict each other, or the network is
            incomplete or cannot be read.
    """
    if not isinstance(x, Tensor):
        raise WrongTypeError(f"x: expected a tensor, found {type(x).__name__}; pass one input.")
    several = isinstance(f, list | tuple)
    network = _joined(f, x) if isinstance(f, list | tuple) else f
    known = known_function(network)
    if isinstance(known, VisitedFunction):
        raise TransformError(
            "f: expected a network with a tree of cuts, found one of visited regions, which knows no others; pass the "
            "deep model."
        )
    if not (isinstance(tolerance, int | float | np.number) and 0.0 < tolerance < 1.0):
        raise argument_error(tolerance, int, float, np.number)(
            f"tolerance: expected a number between 0 and 1, found {tolerance!r}; leave it out for 1e-6."
        )
    example = x.reshape(1, -1) if several else x[None]
    function = read_function(network, example if known is None else None)
    row = input_rows(function, "x", x.reshape(-1) if several else x)
    if not several and x.shape != function.in_shape:
        raise TransformError(f"x: expected one input of shape {function.in_shape}, found {tuple(x.shape)}; reshape it.")
    if known is None and solver is not None:
        raise TransformError(
            "solver: expected None for a deep network, which is searched by compiled code, found "
            f"{solver!r}; leave it out, or pass the shallow network."
        )
    regions = None if known is None else known_network(function, name="f")
    count = len(f) if isinstance(f, list | tuple) else 1
    rows = read_target(target, margin, function.num_outputs // count)
    problem = read_problem(
        row[0].cpu().numpy(),
        TargetRows(np.kron(np.eye(count), rows.rows), np.tile(rows.offsets, count)),
        norm,
        None if regions is None else regions.domain,
        read_features(features, function.num_inputs),
        **limits,
    )
    return AskedNetwork(x, function, regions, tolerance, solver), problem


def _joined(networks: Sequence[object], x: Tensor) -> nn.Module:
    """Join deep models side by side, all with the same flattened input.

    Raises:
        WrongTypeError: one of them is not a module, or is a network of regions.
        TransformError: there is none, or they have different numbers of outputs.
    """
    modules = [network for network in networks if isinstance(network, nn.Module) and known_function(network) is None]
    if len(modules) < len(networks):
        raise WrongTypeError("f: expected a list of deep models, each an nn.Module, found others; leave them out.")
    with torch.no_grad():
        outputs = {module(x[None]).numel() for module in modules}
    if len(outputs) != 1:
        raise TransformError(
            f"f: expected models with the same number of outputs, found {sorted(outputs)}; ask for each separately."
        )
    places = [[list(range(x.numel()))]] * len(modules)
    return Joint(modules, places, [[tuple(x.shape)]] * len(modules))


def _evaluation(function: Function) -> Callable[[Tensor], np.ndarray]:
    def evaluate(x: Tensor) -> np.ndarray:
        row = x[None].to(function.device)
        if isinstance(function, TreeFunction):
            with torch.no_grad():
                return function(row.reshape(1, *function.in_shape)).reshape(-1).cpu().numpy()
        return outputs_at(function, row)[0].cpu().numpy()

    return evaluate


def _outputs(
    problem: Changes, best: Polished, evaluate: Callable[[Tensor], np.ndarray]
) -> dict[int, tuple[float, float]]:
    """Values before and after of the outputs that the target is about."""
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
    """Number of digits, at least 6, of the new values that are needed to reach the target."""
    for digits in range(6, MOST_DIGITS):
        typed, x = values.copy(), best.x.double().numpy().copy()
        typed[moved] = [float(f"{value:.{digits}g}") for value in values[moved]]
        x[moved] = problem.features.rescale(typed)[moved]
        if problem.target.excess(evaluate(torch.from_numpy(x).to(best.x.dtype).double())) <= max(0.0, best.excess):
            return digits
    return MOST_DIGITS


def _values(problem: Changes, x: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Values of an input in units of the features; those within rounding of an integer become that integer."""
    values = problem.features.unscale(x)
    whole = np.rint(values)
    return np.where(np.abs(values - whole) <= _rounding(problem, x, dtype), whole, values)


def _rounding(problem: Changes, x: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    terms: np.ndarray = np.abs(x * problem.features.scale) + np.abs(problem.features.mean)
    return ROUNDING * torch.finfo(dtype).eps * terms
