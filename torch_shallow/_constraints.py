"""Express a network as cvxpy constraints, for optimisation over the network."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import Size, Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.functions import TreeFunction, VisitedFunction
from torch_shallow.modes import outside_modes
from torch_shallow.modules.region_network import RegionNetwork
from torch_shallow.program.extraction import read_within
from torch_shallow.program.model import Model
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.partition import Partition

if TYPE_CHECKING:
    from cvxpy import Constraint, Expression


@outside_modes
def constraints(
    model: nn.Module | ExportedProgram | TreeFunction | VisitedFunction,
    x: Expression,
    y: Expression,
    domain: Domain,
    *,
    example_input: Tensor | None = None,
) -> list[Constraint]:
    """Build cvxpy constraints that keep `x` in a domain and make `y` the output of a network at `x`.

    The constraints are linear, with a binary variable for each ReLU that can change sign in the domain. A mixed-integer
    solver finds the optimum of any problem that contains them. The bounds of the neurons, which largely decide how long
    that takes, are proven: by affine forms, and by linear programs over the relaxations of the preceding neurons.
    Neurons that keep their sign in the domain need no variables. A solver's result holds up to its tolerances: evaluate
    the model at `x.value` to see the effect. (HiGHS, which solves these linear programs, keeps the number of threads of
    its first run in a process: `highspy.Highs.resetGlobalScheduler(True)` lets you choose another.)

    Args:
        model: a module or an exported program that `transform` can read; or a network made by `transform`, or its
            `function`, whose deep network is then used in the part of `domain` that the shallow network knows.
        x: one input without a batch dimension, in the model's shape or flattened: a variable, or an affine expression.
        y: one output without a batch dimension, in the model's shape or flattened: a variable, or an affine expression.
        domain: a bounded `Box` or `Polytope`. Smaller domains need fewer binary variables.
        example_input: a batch of inputs; needed only if the model does not determine the shape of an input.

    Returns:
        The constraints, to be passed to `cvxpy.Problem`.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: the domain is not bounded, a shape does not match, or the model cannot be read or has a head,
            which is not piecewise linear.

    Example:
        Find the cheapest input with an output of at most -1:

        >>> import cvxpy, torch, torch_shallow
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> x, y = cvxpy.Variable(2), cvxpy.Variable(1)
        >>> network = torch_shallow.constraints(model, x, y, torch_shallow.Box(-5.0, 5.0))
        >>> cost = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm1(x)), [*network, y <= -1.0]).solve(solver="HIGHS")
        >>> bool(model(torch.from_numpy(x.value).float())[0] < -1.0 + 1e-5)
        True
    """
    from torch_shallow.bounds.relaxation import relaxed_bounds  # imported here: HiGHS takes a while
    from torch_shallow.search.mixed_integer import encode

    if not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a bounded Box or Polytope, found {domain!r}.")
    program, domain = _program(model, example_input, domain)
    _check_expression("x", x, program.in_shape)
    _check_expression("y", y, program.out_shape)
    bounds = relaxed_bounds(program, domain)
    output, tied = encode(program, domain, bounds, _flat(x))
    return [*tied, _flat(y) == output]


def _program(
    model: nn.Module | ExportedProgram | TreeFunction | VisitedFunction, example_input: Tensor | None, domain: Domain
) -> tuple[ReLUProgram, Domain]:
    """Return the program of a model without a head, and the domain in which it is valid."""
    if isinstance(model, RegionNetwork):
        _check_head(model.function.head, "model.function, or the model without it")
        model = model.function
    if not isinstance(model, TreeFunction | VisitedFunction):
        read = Model.of(model, example_input)
        _check_head(read.traced.head, "the model without it, or transform(model).function")
        return read.program(domain), domain
    if model.may_be_discontinuous:
        raise TransformError(
            "model: expected an untrained network made by transform(), found one whose weights may have been trained, "
            "so that no deep network computes the same function; call this before training."
        )
    domain = domain & model.domain
    if isinstance(model, VisitedFunction):
        return read_within(model.deep.traced, domain), domain
    if not isinstance(model.tree, Partition):
        raise TransformError(
            "model: expected a network that contains the deep network it was made from, found one with only a tree; "
            "pass the deep model."
        )
    return model.tree.program, domain


def _check_head(head: nn.Module | None, instead: str) -> None:
    if head is not None:
        raise TransformError(
            f"model: expected a piecewise-linear model, found one with a head ({type(head).__name__}) after its last "
            f"piecewise-linear operation; pass {instead}."
        )


def _check_expression(name: str, value: object, shape: tuple[int, ...]) -> None:
    """Check that an argument is an affine expression of the given shape.

    Raises:
        WrongTypeError: the argument is not a cvxpy expression.
        TransformError: the expression has another shape, or is not affine.
    """
    cvxpy: Any = import_module("cvxpy")
    if not isinstance(value, cvxpy.Expression):
        raise WrongTypeError(
            f"{name}: expected a variable or an expression of cvxpy, found {type(value).__name__}; create one with "
            f"cvxpy.Variable({shape})."
        )
    flat = (Size(shape).numel(),)
    if tuple(value.shape) not in (shape, flat):
        raise TransformError(
            f"{name}: expected shape {shape}, that of one {'input' if name == 'x' else 'output'} without a batch, or "
            f"{flat}, found {tuple(value.shape)}; use cvxpy.Variable({shape}), or cvxpy.reshape(..., order='C')."
        )
    if not value.is_affine():
        raise TransformError(
            f"{name}: expected an expression that is affine in its variables, found {value}; introduce a new variable "
            "and constrain it to equal this expression, if the solver accepts that."
        )


def _flat(expression: Any) -> Any:
    cvxpy: Any = import_module("cvxpy")
    return cvxpy.reshape(expression, (Size(expression.shape).numel(),), order="C")
