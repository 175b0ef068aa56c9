"""A network as constraints of cvxpy, for whoever optimises over it."""

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
    """Constraints of cvxpy that keep `x` in a domain and make `y` the output of a network at `x`.

    They are linear, with a binary variable for each ReLU that can change sign in the domain: whatever problem they are
    part of, a solver for mixed integers finds its optimum over the network. The bounds of the neurons, which decide on
    how long that takes, are proven: by affine forms, and by linear programs over the relaxations of the neurons before.
    Neurons that keep their sign in the domain are left out. What a solver says holds up to its tolerances: put
    `x.value` into the model to see what they make. (HiGHS, which solves those linear programs, keeps the number of
    threads of its first run in a process: `highspy.Highs.resetGlobalScheduler(True)` lets you choose another.)

    Args:
        model: a module or an exported program that `transform` reads; or a network that `transform` made, or its
            `function`, of which the deep network is taken, in the part of `domain` that it knows.
        x: one input, without a batch, of the model's shape or flattened: a variable, or an expression affine in some.
        y: one output, likewise.
        domain: a bounded `Box` or `Polytope`. The smaller it is, the fewer binaries there are.
        example_input: see `transform`.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: the domain is not bounded, a shape does not fit, or the model cannot be read or has a head,
            which is not piecewise linear.

    Example:
        The least costly input with an output of at most -1:

        >>> import cvxpy, torch, torch_shallow
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> x, y = cvxpy.Variable(2), cvxpy.Variable(1)
        >>> network = torch_shallow.constraints(model, x, y, torch_shallow.Box(-5.0, 5.0))
        >>> cost = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm1(x)), [*network, y <= -1.0]).solve(solver="HIGHS")
        >>> bool(model(torch.from_numpy(x.value).float())[0] < -1.0 + 1e-5)
        True
    """
    from torch_shallow.bounds.relaxation import relaxed_bounds  # HiGHS takes a while
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
    """The program of a model without a head, and where it is asked for."""
    if isinstance(model, RegionNetwork):
        _check_head(model.function.head, "model.function, or the model without it")
        model = model.function
    if not isinstance(model, TreeFunction | VisitedFunction):
        read = Model.of(model, example_input)
        _check_head(read.traced.head, "the model without it, or transform(model).function")
        return read.program(domain), domain
    if model.may_be_discontinuous:
        raise TransformError(
            "model: expected a network as transform() made it, found one whose weights may have been trained, so that "
            "no deep network computes it; ask before training."
        )
    domain = domain & model.domain
    if isinstance(model, VisitedFunction):
        return read_within(model.deep.traced, domain), domain
    if not isinstance(model.tree, Partition):
        raise TransformError(
            "model: expected a network that knows the deep network it was made of, found one of a tree alone; pass the "
            "deep model."
        )
    return model.tree.program, domain


def _check_head(head: nn.Module | None, instead: str) -> None:
    if head is not None:
        raise TransformError(
            f"model: expected a piecewise-linear model, found one with a head ({type(head).__name__}) behind its last "
            f"piecewise-linear operation; pass {instead}."
        )


def _check_expression(name: str, value: object, shape: tuple[int, ...]) -> None:
    """Make sure that an argument is an affine expression of some shape.

    Raises:
        WrongTypeError: it is no expression.
        TransformError: it has another shape, or is not affine.
    """
    cvxpy: Any = import_module("cvxpy")
    if not isinstance(value, cvxpy.Expression):
        raise WrongTypeError(
            f"{name}: expected a variable or an expression of cvxpy, found {type(value).__name__}; make one by "
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
            f"{name}: expected an expression that is affine in its variables, found {value}; introduce a variable that "
            "equals it, if the solver takes that."
        )


def _flat(expression: Any) -> Any:
    cvxpy: Any = import_module("cvxpy")
    return cvxpy.reshape(expression, (Size(expression.shape).numel(),), order="C")
