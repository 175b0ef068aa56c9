"""Exact integrated gradients compared with Captum's for 50 and 1000 steps: completeness errors and times.

`python -m benchmarks.integrated_gradients [--rows N]` prints a table. One thread, warm, medians of processor time; the
baseline is 0. Both get the model as trained, in float32 (ACAS Xu: float64), and the same rows. The error is the largest
delta of the rows, relative to the difference of the outputs; the one in float64 is for the same model in that dtype.
Our time includes reading the model, except in the second line, where `transform(model, data=...)` has read it before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.networks import ACAS_XU_FOLDER, read_box, read_onnx
from benchmarks.visited import digits, mlp, train
from tests.piecewise_models import digits_cnn
from torch_shallow import transform
from torch_shallow.explain.function import input_rows, read_function
from torch_shallow.explain.integrated_gradients import integrated_gradients
from torch_shallow.explain.segments.segment import pieces

REPEATS = 5
STEPS = (50, 1000)


def subjects(rows: int) -> Iterator[tuple[str, nn.Module, Tensor, Tensor]]:
    """Yield name, model, inputs and targets.

    Args:
        rows: Number of inputs.

    Yields:
        A classifier of digits and digits, or ACAS Xu and points in the box of property 3.
    """
    images, labels = digits(2000)
    for name, make in (("784-512-256-10", mlp), ("digits CNN, max pooling", lambda: digits_cnn(28))):
        torch.manual_seed(0)
        model = make()
        train(model, images, labels, epochs=2)
        yield name, model, images[:rows], labels[:rows]
    path = ACAS_XU_FOLDER / "ACASXU_run2a_1_1_batch_2000.onnx"
    if path.exists():
        lower, upper = torch.tensor(read_box(ACAS_XU_FOLDER / "prop_3.vnnlib")).T
        x = lower + (upper - lower) * torch.rand(rows, 5, dtype=torch.float64)
        yield "ACAS Xu 1_1", read_onnx(path), x, torch.zeros(rows, dtype=torch.int64)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of some runs, after one that is not counted."""
    work()
    times = [time.process_time()]
    for _ in range(repeats):
        work()
        times.append(time.process_time())
    return statistics.median(after - before for before, after in pairwise(times))


def completeness(model: nn.Module, attributions: Tensor, x: Tensor, target: Tensor) -> float:
    """Return the largest difference between sums of attributions and of outputs, relative to those of outputs."""
    with torch.no_grad():
        y, zero = (model(rows).gather(1, target[:, None])[:, 0] for rows in (x, torch.zeros_like(x)))
    return float(((attributions.flatten(1).sum(1) - (y - zero)).abs() / (y - zero).abs()).max())


def exactly(target: Tensor, model: nn.Module, x: Tensor) -> Tensor:
    """Compute attributions with this package."""
    attributions = integrated_gradients(model, x, target=target)
    assert isinstance(attributions, Tensor)
    return attributions


def read_once(target: Tensor, known: nn.Module, _: nn.Module, x: Tensor) -> Tensor:
    """Compute attributions with this package, using a network of visited regions in place of the model."""
    return exactly(target, known, x)


def by_captum(target: Tensor, steps: int, model: nn.Module, x: Tensor) -> Tensor:
    """Compute attributions with Captum."""
    from captum.attr import IntegratedGradients

    attributions: Tensor = IntegratedGradients(model).attribute(x, target=target, n_steps=steps)
    return attributions


def main(rows: int) -> None:
    """Print the table.

    Args:
        rows: Number of inputs.
    """
    torch.set_num_threads(1)
    print(f"| network, {rows} rows | pieces a row | | error | error in float64 | seconds | of ours |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for name, model, x, target in subjects(rows):
        function = read_function(model, x)
        start, end = input_rows(function, "x", torch.zeros_like(x)), input_rows(function, "x", x)
        count = int(pieces(function, start, end)[0].starts_piece.sum()) / rows
        reading = seconds(partial(read_function, model, x), REPEATS)
        runs: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
            f"exact ({1000 * reading:.0f} ms to read)": partial(exactly, target),
            "exact, read before": partial(read_once, target, transform(model, data=x[:1])),
            **{f"Captum, {steps} steps": partial(by_captum, target, steps) for steps in STEPS},
        }
        ours = None
        for who, run in runs.items():
            found = seconds(partial(run, model, x), REPEATS)
            ours = found if ours is None else ours
            single = completeness(model, run(model, x), x, target)
            dtype = next(model.parameters()).dtype
            double = completeness(model.double(), run(model, x.double()), x.double(), target)
            model.to(dtype)
            print(
                f"| {name} | {count:,.0f} | {who} | {single:.1e} | {double:.1e} | {found:.4f} | {found / ours:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4)
    main(parser.parse_args().rows)
