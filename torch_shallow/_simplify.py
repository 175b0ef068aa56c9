"""Simplify a network to a few regions, with a proven distance between the two networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.function import known_function
from torch_shallow.explain.subject import Subject, subject_of
from torch_shallow.functions import TreeFunction
from torch_shallow.geometry.chart import Chart, make_chart
from torch_shallow.geometry.tree import FreeTree
from torch_shallow.modes import outside_modes
from torch_shallow.modules.simplified_relu import ProvenClasses, ProvenDistance, SimplifiedReLU
from torch_shallow.program.relu_program import ReLUProgram, Stage
from torch_shallow.search.affine_maps import AffineMaps

if TYPE_CHECKING:
    from torch_shallow.approximation.growing import Node

CUTS = ("features", "neurons", "both")
PRECISION = 0.05  # allowed distance of errors from the least ones, and of bounds from errors, as a share
ALL_MET = 2  # with at most this many inputs, thresholds follow each boundary
NOTHING = 1e-9  # an error of this share of an output's range needs no further cut


@outside_modes
def simplify(
    model: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None = None,
    *,
    max_error: float | None = None,
    max_regions: int | None = None,
    same_class: bool = False,
    margin: float = 0.0,
    cuts: str = "features",
    weight: object = None,
    features: Features | Sequence[str] | None = None,
    max_terms: int | None = None,
    time_limit: float | None = None,
    workers: int | Executor = 1,
    example_input: Tensor | None = None,
    progress: bool = False,
) -> SimplifiedReLU:
    """Build a shallow network g of few regions whose distance from the network f is proven on the whole domain.

    A tree of cuts grows where the best affine map is farthest from f. In each cell, linear programming finds the affine
    map whose largest deviation at sample points is smallest, and an ascent finds points where it is worse. Finally, a
    search proves the largest deviation, or finds a point with a larger one, and the fit is repeated with that point.
    Thresholds and coefficients have no more digits than the error needs. Cuts are chosen one at a time, so a network of
    fewer regions may exist.

    If f has a head, such as a softmax, g has it too; the proven distance concerns the values before the head. The class
    is the index of the largest of these values or, for a single output, whether it is positive. The lead of a class is
    how far its value exceeds the others, or 0. With `same_class=True`, g gives the class of f wherever that class leads
    by more than `margin`, and its values follow f only as far as the class allows. Without it, `g.region_same_class`
    proves, when it is read, in which regions both networks give the same class.

    Args:
        model: a model of any size, or a shallow network; it is not changed. For a shallow network of up to 20,000
            regions and 6 inputs, the vertices of its regions give the error exactly, which is faster; with cuts other
            than `"features"`, the result then has no more regions than the network's own tree, pruned as far as
            `max_error` allows.
        domain: a bounded `Box` or `Polytope`; if None, the domain of a shallow network.
        max_error: the largest distance allowed, in the units of the outputs (in units of `weight`, if given). The
            number of regions is kept small.
        max_regions: the largest number of regions allowed. The distance is kept small.
        same_class: whether g must give the class of f, with a small number of regions; `max_error`, if given, holds as
            well. At least one of `max_error`, `max_regions` and `same_class` is required.
        margin: with `same_class`, the lead of f's class beyond which g must give that class. Where several classes of f
            meet, their boundary bends along half-spaces of neurons. With `cuts="features"`, a margin of 0 and more than
            two inputs, no finite number of regions follows such a boundary.
        cuts: `"features"` cuts by thresholds on single inputs; `"neurons"` cuts by the half-spaces in which a neuron is
            active, which needs fewer regions but takes longer and gives rules that are harder to read; `"both"`
            chooses.
        weight: the unit of the distance, which is the largest |f - g| / weight over all outputs: a positive number, or
            one for each output of the trunk; 1 if None.
        features: names of the inputs, or `Features` with their scales; thresholds and coefficients are then rounded in
            the units of the data.
        max_terms: the largest number of inputs that the map of a region may read for each output; all if None.
        time_limit: seconds after which to stop, approximately, including the time for proofs; no limit if None. What
            cannot be proven in time is left out: the result then has fewer regions, all of them proven.
        workers: a number of threads, or any `concurrent.futures.Executor`, for the proving searches, which take most of
            the time for networks of many inputs or neurons. The choice of cuts is not shared among workers.
        example_input: a batch of inputs; needed only if the model does not determine the shape of an input.
        progress: whether to show the number of regions and the largest distance found.

    Returns:
        The network, with `error`, `error_found`, `worst_input`, `output_errors`, `region_errors` and `reason`, and, for
        classes, `class_error`, `class_input` and `region_same_class`: see `SimplifiedReLU`. If the goal was not
        reached, it is the best network found, and `reason` says what stopped the search. Without a time limit, the
        result is the same on each run.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: an argument has an invalid value, the domain is not bounded, or the model cannot be read.

    Example:
        >>> import torch, torch_shallow
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> simple = torch_shallow.simplify(model, torch_shallow.Box(-1.0, 1.0), max_error=0.04)
        >>> simple.num_regions, simple.error_found <= simple.error <= 0.04
        (2, True)
        >>> simple.half_spaces.rows.tolist()  # a cut where the second input is 0.4
        [[0.0, 1.0, -0.4]]
    """
    # Imported here because they import compiled code.
    from torch_shallow.approximation.class_fit import ClassFitter
    from torch_shallow.approximation.classes import Classes, prove_classes
    from torch_shallow.approximation.cuts import CandidateCuts
    from torch_shallow.approximation.fit import Fitter
    from torch_shallow.approximation.growing import Growing
    from torch_shallow.approximation.known_cell import KnownCell
    from torch_shallow.approximation.pruning import pruned
    from torch_shallow.approximation.sampled_cell import SampledCell
    from torch_shallow.bounds.bounding_box import bounding_box

    _check(max_error, max_regions, same_class, cuts, max_terms)
    _check_margin(margin, same_class)
    asking = Asking(SearchOptions(time_limit=time_limit, workers=workers))
    subject = subject_of(model, domain, example_input, drop_head=True)
    program = subject.program
    lower, upper = bounding_box(subject.domain, program.in_shape)
    if cuts != "features" and (lower == upper).any():
        raise TransformError(
            f"cuts: expected 'features' in a box that fixes entries of the input, found {cuts!r}; choose that, or put "
            "the fixed values into the model."
        )
    named, weights = read_features(features, program.num_inputs), _weights(weight, program)
    rng = np.random.default_rng(0)
    axes = Stage("inputs", np.eye(program.num_inputs), np.zeros(program.num_inputs))  # a cut may read any of them
    chart = make_chart(ReLUProgram(program.in_shape, program.in_shape, (axes,), axes.weight, axes.bias), subject.domain)
    cell = SampledCell.of(subject.domain, program.in_shape, chart.lift(chart.inner[None])[0], rng)
    function = None if same_class else _known_everywhere(model, subject)
    known = None if function is None else KnownCell.whole(function)
    classes, basis = Classes(program, subject.domain), (program, weights, named, max_terms, PRECISION)
    if same_class:
        goal = max(margin, classes.none)
        fitter: Fitter = ClassFitter(*basis, classes, goal, np.inf if max_error is None else max_error)
        endless = margin == 0.0 and cuts == "features" and int((upper > lower).sum()) > ALL_MET
        if endless and max_regions is None and time_limit is None:
            raise TransformError(
                "margin: expected a positive number with same_class=True and cuts='features', since thresholds meet a "
                "bent boundary of classes with no number of regions, found 0; give a margin, max_regions or "
                "time_limit, or choose cuts='neurons'."
            )
    else:
        least = NOTHING * float((np.abs(program(cell.x)).max(axis=0) / weights).max(initial=0.0))
        goal, fitter = max(least, 0.0 if max_error is None else max_error), Fitter(*basis)
    with _shown(progress) as show, asking.watched():
        growing = Growing(
            fitter,
            CandidateCuts(program, cuts, named, weights, classes if same_class else None),
            goal,
            max_regions,
            asking,
            rng,
            show,
        )
        root = growing.grow(cell if known is None else known)
        is_own_tree_of_use = max_error is not None and cuts != "features"
        if known is not None and is_own_tree_of_use and not asking.no_time_left():
            most = (max_regions or len(known.parts)) if growing.reasons else len(root.leaves) - 1
            smaller = pruned(known, fitter, goal, most)
            if smaller is not None:
                root, growing.reasons = smaller, []
    is_asked = same_class or max_error is not None
    reasons = [reason for reason in growing.reasons if is_asked or not reason.startswith("max_regions")]
    tree, maps, leaves = _flattened(root, chart, subject)
    simplified = SimplifiedReLU(tree, maps, head=subject.head).to(subject.device)
    simplified.may_be_discontinuous = True
    fits = [leaf.fit for leaf in leaves]
    simplified.keep_distance(
        ProvenDistance(
            torch.from_numpy(weights),
            torch.from_numpy(np.array([fit.bound for fit in fits])),
            torch.from_numpy(np.array([fit.found for fit in fits])),
            torch.from_numpy(np.array([fit.at for fit in fits])),
            ", ".join(dict.fromkeys(reasons)),
        ),
        ProvenClasses(
            goal,
            torch.tensor([fit.lead_bound for fit in fits], dtype=torch.float64),
            torch.tensor([fit.lead for fit in fits], dtype=torch.float64),
            torch.from_numpy(np.array([fit.lead_at for fit in fits])),
        )
        if same_class
        else partial(prove_classes, classes, fits, time_limit),
    )
    return simplified


def _known_everywhere(model: object, subject: Subject) -> TreeFunction | None:
    """Return the function of a shallow network that is simplified in its own domain, and None for any other model."""
    known = known_function(model)
    if not isinstance(known, TreeFunction):
        return None
    ends, limits = (domain.limits(known.in_shape) for domain in (subject.domain, known.domain))
    is_same = type(subject.domain) is type(known.domain) and all(map(np.array_equal, ends, limits))
    return known if is_same else None


def _flattened(root: Node, chart: Chart, subject: Subject) -> tuple[FreeTree, AffineMaps, list[Node]]:
    """Return the tree in flat arrays with its affine maps, and the leaves in the order of the regions."""
    program, stack = subject.program, [(root, -1)]
    inner: list[Node] = []
    leaves: list[Node] = []
    children: list[list[int]] = []
    while stack:
        node, parent = stack.pop()
        if node.below is None:
            leaves.append(node)
            number = ~(len(leaves) - 1)
        else:
            number = len(inner)
            inner.append(node)
            children.append([0, 0])
            stack += [(node.below[1], 2 * number + 1), (node.below[0], 2 * number)]
        if parent >= 0:
            children[parent // 2][parent % 2] = number
    d = program.num_inputs
    points = np.array([leaf.fit.cell.inner for leaf in leaves]) - chart.origin
    maps = np.array([leaf.fit.maps for leaf in leaves])
    tree = FreeTree(
        in_shape=program.in_shape,
        out_shape=program.out_shape,
        domain=subject.domain,
        chart=chart,
        children=np.array(children, dtype=np.int64).reshape(-1, 2),
        points=points @ np.linalg.pinv(chart.directions),
    )
    rows = np.array([node.cut for node in inner]).reshape(-1, d + 1)
    return tree, AffineMaps(None, rows, maps[..., :-1].copy(), maps[..., -1].copy(), None), leaves


def _check(
    max_error: float | None, max_regions: int | None, same_class: bool, cuts: str, max_terms: int | None
) -> None:
    """Check the types and ranges of the arguments that are numbers or words.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: an argument is out of range, or no goal is given.
    """
    if not isinstance(same_class, bool):
        raise WrongTypeError(f"same_class: expected True or False, found {same_class!r}.")
    if max_error is None and max_regions is None and not same_class:
        raise TransformError(
            "max_error, max_regions, same_class: expected at least one of them, found none; say what is wanted."
        )
    if max_error is not None and (
        isinstance(max_error, bool) or not isinstance(max_error, Real) or not 0.0 < max_error < np.inf
    ):
        raise argument_error(max_error, Real)(
            f"max_error: expected a positive finite number, found {max_error!r}; for no error at all, use transform()."
        )
    for name, value in (("max_regions", max_regions), ("max_terms", max_terms)):
        least = 1 if name == "max_regions" else 0
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < least):
            raise argument_error(value, Integral)(f"{name}: expected a number from {least}, or None, found {value!r}.")
    if cuts not in CUTS:
        raise argument_error(cuts, str)(f"cuts: expected one of {', '.join(map(repr, CUTS))}, found {cuts!r}.")


def _check_margin(margin: float, same_class: bool) -> None:
    """Check that the margin is a valid number, and 0 unless the class is requested.

    Raises:
        WrongTypeError: the margin is not a number.
        TransformError: the margin is negative or not finite, or positive without `same_class`.
    """
    if isinstance(margin, bool) or not isinstance(margin, Real) or not 0.0 <= margin < np.inf:
        raise argument_error(margin, Real)(f"margin: expected a finite number from 0, found {margin!r}.")
    if margin and not same_class:
        raise TransformError(f"margin: expected 0 without same_class=True, found {margin!r}; leave it out.")


def _weights(weight: object, program: ReLUProgram) -> Float[np.ndarray, "outputs"]:
    """Return the divisor of each output's error.

    Raises:
        WrongTypeError: the weight is neither a number nor an array of numbers.
        TransformError: the number of weights does not match the outputs, or a weight is not positive and finite.
    """
    given = weight.detach().cpu().numpy() if isinstance(weight, Tensor) else weight
    try:
        found = np.array(1.0 if given is None else given, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise WrongTypeError(f"weight: expected positive numbers, found {weight!r}.") from error
    if found.size not in {1, program.num_outputs} or not ((found > 0.0) & (found < np.inf)).all():
        raise TransformError(
            f"weight: expected a positive finite number, or one for each of the {program.num_outputs} outputs, found "
            f"{weight!r}."
        )
    return np.broadcast_to(found, (program.num_outputs,)).copy()


@contextmanager
def _shown(progress: bool) -> Iterator[Callable[[int, float], None]]:
    """Show a progress line with the number of regions and the largest error found while the tree grows."""
    if not progress:
        yield lambda *_: None
        return
    from tqdm.auto import tqdm

    with tqdm(unit=" regions") as bar:

        def move(regions: int, error: float) -> None:
            bar.set_postfix_str(f"error {error:.3g}", refresh=False)
            bar.update(regions - bar.n)

        yield move
