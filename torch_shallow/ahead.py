"""Compile all compiled code ahead of its first use: `python -m torch_shallow compile`.

What is compiled depends on the types of the arguments, so the surest way to compile a function is to use it: each job
here computes one kind of result for small networks. Jobs are independent, and run in one process per core.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager

import torch
from torch import nn

from torch_shallow import domain, explain, plot
from torch_shallow._estimate import estimate
from torch_shallow._transform import transform
from torch_shallow.explain.function import read_function
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.search.partition import activation_partition

BOX = domain.Box(-1.0, 1.0)


def compile_all(processes: int | None = None) -> Iterator[tuple[str, int, float]]:
    """Compile everything that is not on disk yet.

    Args:
        processes: the number of processes; one for each core if None.

    Yields:
        The name of each finished job, the number of functions that it compiled, and its processor time in seconds.
    """
    names = list(JOBS)
    count = min(processes or os.cpu_count() or 1, len(names))
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_run, name) for name in names]):
            yield done.result()


def _run(name: str) -> tuple[str, int, float]:
    logging.getLogger("torch_shallow").setLevel(logging.ERROR)  # the caller knows that it compiles
    torch.set_num_threads(1)
    with _compilations() as functions:
        begun = time.process_time()
        JOBS[name]()
        return name, len(functions), time.process_time() - begun


@contextmanager
def _compilations() -> Iterator[list[str]]:
    """Collect the names of the functions compiled inside the context."""
    from numba.core import event

    class Listener(event.Listener):  # type: ignore[misc]
        def on_start(self, event: event.Event) -> None:
            found.append(event.data["dispatcher"].py_func.__name__)

        def on_end(self, event: event.Event) -> None:
            """Do nothing, as the function was counted at its start."""

    found: list[str] = []
    with event.install_listener("numba:compile", Listener()):
        yield found


@torch.no_grad()
def _model() -> nn.Sequential:
    """Return a network of two classes, both of which occur around 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    model[-1].bias -= model(torch.zeros(2, dtype=torch.float64))
    return model


def _in_a_box() -> ShallowReLU:
    return transform(_model(), domain=BOX)


def _transform() -> None:
    whole, half_plane = transform(_model()), domain.Polytope(torch.ones(1, 2), torch.ones(1))
    for shallow in (whole, _in_a_box(), transform(_model(), domain=half_plane)):
        for dtype in (torch.float64, torch.float32):
            x = torch.zeros(1, 2, dtype=dtype, requires_grad=True)
            shallow(x).sum().backward()
    whole.merge()
    wide = transform(nn.Sequential(nn.Linear(2, 1), nn.ReLU()))  # it reads one coordinate
    for dtype in (torch.float64, torch.float32):
        wide.locate(torch.zeros(1, 2, dtype=dtype))
        whole(torch.zeros(whole.num_regions, 2, dtype=dtype))
    trained = whole.unfreeze()
    for dtype in (torch.float64, torch.float32):
        trained(torch.zeros(1, 2, dtype=dtype)).sum().backward()


def _facts() -> None:
    shallow = _in_a_box()
    explain.output_range(shallow)
    explain.output_range(shallow, max_rays=1)  # by linear programs
    explain.volumes(shallow)
    shallow.continuity_gap()


def _programs() -> None:
    from torch_shallow.search.enumerate import enumerate_regions

    estimate(_model(), domain=BOX, time_limit=0.01)
    transform(_model(), domain=BOX, method="lp")
    program = activation_partition(_in_a_box().partition).program
    enumerate_regions(program, BOX, max_rays=4)  # cells of more rays go from one engine to the other


def _questions() -> None:
    from torch_shallow.search.ask import Asked
    from torch_shallow.search.question import CellTask, Posed

    box = domain.Box(-10.0, 10.0)  # large, so that neurons of the second layer take both signs
    program = activation_partition(transform(_model(), domain=box).partition).program
    for method in ("rays", "relaxation"):
        engine = Asked(Posed(program, box, 2), method).engine
        left = engine.explore(CellTask((engine.root(),), -float("inf"), 1)).open
        engine.explore(CellTask(left, -float("inf"), 200))


def _counterfactuals() -> None:
    shallow, points = _in_a_box(), torch.cartesian_prod(*2 * [torch.linspace(-0.9, 0.9, 9, dtype=torch.float64)])
    classes = shallow(points).argmax(1)
    target = next(int(other) for other in classes if other != classes[0])
    for norm in (1, 2, float("inf")):
        explain.counterfactual(shallow, points[0], target, norm=norm)
        explain.counterfactual(shallow, points[0], target, norm=norm, integer=[0])


def _certificates() -> None:
    model = _model()
    for sample in (None, 1):
        transform(model).certify(model, sample=sample)


def _shapley() -> None:
    from torch_shallow.explain.shapley.solve import play_by_values, solve

    x = torch.ones(1, 2, dtype=torch.float64)
    function = read_function(_model(), x)
    solve(function, x, -x, 2)
    play_by_values(function, x[0], -x[0])


def _lines() -> None:
    explain.integrated_gradients(_model(), torch.ones(1, 2, dtype=torch.float64), target=0)


def _pictures() -> None:
    plot.polygons(_in_a_box())


# The longest jobs come first.
def _slopes() -> None:
    """Compile the slope searches: all inputs of the box are free, and each norm has its own bound."""
    for norm in (1, 2):
        explain.lipschitz_constant(_model(), norm, BOX)


JOBS: dict[str, Callable[[], None]] = {
    "transform": _transform,
    "Shapley values": _shapley,
    "questions": _questions,
    "slopes": _slopes,
    "linear programs": _programs,
    "counterfactuals": _counterfactuals,
    "certificates": _certificates,
    "facts": _facts,
    "pictures": _pictures,
    "lines": _lines,
}
