"""Models of `benchmarks.acceptance`: those of the tests and common ones, as modules, programs and files."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.networks import ACAS_XU_FOLDER, read_box, read_onnx
from torch_shallow.domain import Box, Domain, WholeSpace

zoo: Any = import_module("tests.zoo")  # the tests are not typed strictly
models: Any = import_module("tests.piecewise_models")

COUNT = 100


class Argmax(nn.Module):
    """The number of the largest value."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the number of the largest value in each row."""
        return x.argmax(-1, keepdim=True)


@dataclass(frozen=True)
class Subject:
    """A model, and the form in which a tool gets it.

    Attributes:
        name: Name in the table.
        make: Makes the model.
        in_shape: Shape of one input.
        domain: The domain.
        given: Makes what a tool is given from the model: itself, an exported program or the path of a file.
    """

    name: str
    make: Callable[[], nn.Module]
    in_shape: tuple[int, ...] = (3,)
    domain: Domain = field(default_factory=WholeSpace)
    given: Callable[[nn.Module], Any] = lambda model: model

    def model(self) -> nn.Module:
        """Return the model in float64 and eval mode, with running statistics changed as if it had been trained."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.make().double().eval()
            for name, buffer in model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_()
                elif name.endswith("running_var"):
                    buffer.uniform_(0.5, 2.0)
        return model

    def points(self) -> Float[Tensor, "rows ..."]:
        """Draw random points in the domain."""
        generator = torch.Generator().manual_seed(1)
        x = 2.0 * torch.randn(50 * COUNT, int(np.prod(self.in_shape)), generator=generator, dtype=torch.float64)
        if isinstance(self.domain, Box):
            lower, upper = (torch.from_numpy(bound.copy()) for bound in self.domain.bounds(self.in_shape))
            uniform = lower + (upper - lower) * torch.rand(x.shape, generator=generator, dtype=torch.float64)
            x = torch.where((upper - lower).isfinite(), uniform, x.clamp(lower, upper))
        return x[self.domain.contains(x)][:COUNT].reshape(-1, *self.in_shape)


def subjects() -> dict[str, Subject]:
    """Return all models, by name."""
    return {subject.name: subject for subject in (*_of_the_tests(), *_sequences(), *_others(), *_acas_xu())}


def _of_the_tests() -> Iterator[Subject]:
    for specimen in (*zoo.ARCHITECTURES, *zoo.PIECEWISE, *zoo.WITH_HEAD):
        yield Subject(specimen.name.partition("(")[0], specimen.make, specimen.in_shape, specimen.domain)


def _mlp(*more: nn.Module, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(*zoo.chain(3, 6, 5, 2, bias=bias), *more)


def _sequences() -> Iterator[Subject]:
    yield Subject("MLP 784-512-256-10", lambda: zoo.chain(784, 512, 256, 10), (784,))
    yield Subject("MLP without bias", lambda: _mlp(bias=False))
    yield Subject("MLP with Dropout", lambda: nn.Sequential(*zoo.chain(3, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 2)))
    yield Subject("nn.Sequential in nn.Sequential", lambda: nn.Sequential(_mlp(nn.ReLU()), zoo.chain(2, 4, 1)))
    yield Subject(
        "BatchNorm and Dropout",
        lambda: nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), *zoo.chain(6, 5, 2)),
    )
    yield Subject(
        "CNN with average pooling",
        lambda: nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 2)),
        (1, 3, 3),
    )
    yield Subject("digits CNN", models.digits_cnn, (1, 8, 8))
    yield Subject("LeakyReLU of default slope", lambda: models.stacked(nn.LeakyReLU(), 3, 6, 4, 2))
    yield Subject("Hardsigmoid", lambda: models.stacked(nn.Hardsigmoid(), 2, 4, 3, 1), (2,))
    yield Subject("MLP and LogSoftmax", lambda: _mlp(nn.LogSoftmax(-1)))
    yield Subject("MLP and argmax", lambda: _mlp(Argmax()))


def _others() -> Iterator[Subject]:
    example = (torch.zeros(2, 3, dtype=torch.float64),)
    yield Subject("ExportedProgram of an MLP", _mlp, given=lambda model: torch.export.export(model, example))
    yield Subject("ONNX file of an MLP", _mlp, given=_onnx_file)


def _onnx_file(model: nn.Module) -> Path:
    path = Path(tempfile.mkdtemp()) / "model.onnx"
    options: dict[str, Any] = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
    torch.onnx.export(copy.deepcopy(model).float(), (torch.zeros(2, 3),), path, dynamo=False, **options)
    return path


def _acas_xu() -> Iterator[Subject]:
    """Yield ACAS Xu 1_1 in the box of property 3, as a file and as a module; nothing if the files are missing.

    Yields:
        The two.
    """
    path = ACAS_XU_FOLDER / "ACASXU_run2a_1_1_batch_2000.onnx"
    if path.exists():
        bounds = read_box(ACAS_XU_FOLDER / "prop_3.vnnlib").T
        image = (1, 1, 5)
        yield Subject(
            "ACAS Xu 1_1, ONNX file",
            lambda: nn.Sequential(nn.Flatten(), *read_onnx(path)),
            image,
            Box(*bounds.reshape(2, *image)),
            lambda _: path,
        )
        yield Subject("ACAS Xu 1_1, its layers", lambda: read_onnx(path), (5,), Box(*bounds))
