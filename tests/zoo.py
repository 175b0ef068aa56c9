"""Models of all kinds, with the numbers of their activation regions where these are known mathematically."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn

from tests import piecewise_models as models
from tests.arrangements import ARRANGEMENTS as HYPERPLANES
from torch_shallow import ShallowReLU, transform
from torch_shallow.domain import Box, Domain, Polytope, WholeSpace


@dataclass(frozen=True)
class Specimen:
    """A model that can be made repeatedly, always the same.

    Attributes:
        name: Name for test ids.
        make: Makes the model, with random weights in float32 from the current seed.
        in_shape: Shape of one input.
        regions: Number of activation regions in the domain, if known.
        domain: The domain.
    """

    name: str
    make: Callable[[], nn.Module]
    in_shape: tuple[int, ...]
    regions: int | None = None
    domain: Domain = field(default_factory=WholeSpace)

    def __str__(self) -> str:
        return self.name

    def model(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """Return the model, in eval mode."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return self.make().to(dtype).eval()

    def example(self) -> Tensor:
        """Return a batch that tells the shape of the input."""
        return torch.zeros(1, *self.in_shape)


@cache
def transformed(specimen: Specimen, dtype: torch.dtype = torch.float64) -> ShallowReLU:
    """Return the shallow network of a model, made once per process: tests may change only copies of it."""
    return transform(specimen.model(dtype), specimen.example().to(dtype), domain=specimen.domain)


def chain(*sizes: int, bias: bool = True) -> nn.Sequential:
    """Return linear layers of these sizes with ReLUs between them."""
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b, bias=bias), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def linear(weight: Sequence[Sequence[float]], bias: Sequence[float]) -> nn.Linear:
    """Return a layer with the given weights."""
    layer = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer


def random_mlp(widths: Sequence[int], domain: Domain | None = None, regions: int | None = None) -> Specimen:
    """Return a chain made by the recipe of `known_counts`."""
    name = "-".join(map(str, widths)) + ("" if domain is None else f" on {domain}")
    return Specimen(name, lambda: chain(*widths), (widths[0],), regions, domain or WholeSpace())


def changed(model: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """Return the model with its parameters changed."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(change(parameter))
    return model


def tent(depth: int) -> nn.Sequential:
    """Compose T(x) = 2 relu(x) - 4 relu(x - 1/2) `depth` times: 2^depth pieces on [0, 1] and flat ends outside."""
    first, middle = linear([[1.0], [1.0]], [0.0, -0.5]), ([[2.0, -4.0]] * 2, [0.0, -0.5])
    hidden = [part for _ in range(depth - 1) for part in (nn.ReLU(), linear(*middle))]
    return nn.Sequential(first, *hidden, nn.ReLU(), linear([[2.0, -4.0]], [0.0]))


def folded(dimension: int, depth: int) -> nn.Sequential:
    """Compose a tent of each coordinate `depth` times: 2^(dimension depth) regions on the unit cube."""
    eye = torch.eye(dimension)
    first = torch.cat([eye, eye])
    middle = torch.cat([torch.cat([2 * eye, -4 * eye], 1)] * 2)
    offsets = [0.0] * dimension + [-0.5] * dimension
    hidden = [part for _ in range(depth - 1) for part in (nn.ReLU(), linear(middle.tolist(), offsets))]
    return nn.Sequential(linear(first.tolist(), offsets), *hidden, nn.ReLU(), nn.Linear(2 * dimension, 1))


def identity(dimension: int, depth: int) -> nn.Sequential:
    """Compose relu(x) - relu(-x) `depth` times: every layer cuts along the same hyperplanes as the first."""
    eye = torch.eye(dimension)
    apart, together = torch.cat([eye, -eye]), torch.cat([eye, -eye], 1)
    layers = [
        part
        for _ in range(depth)
        for part in (
            linear(apart.tolist(), [0.0] * 2 * dimension),
            nn.ReLU(),
            linear(together.tolist(), [0.0] * dimension),
        )
    ]
    return nn.Sequential(*layers)


def trap() -> nn.Sequential:
    """Return 2 relu(x) + 3 relu(-x) + 7: at 0 no neuron is active, a pattern that no region has."""
    return nn.Sequential(linear([[1.0], [-1.0]], [0.0, 0.0]), nn.ReLU(), linear([[2.0, 3.0]], [7.0]))


class Residual(nn.Module):
    """The map x + block(x), twice, the second time with a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = chain(3, 4, 3), chain(3, 4, 2), nn.Linear(2, 2)
        self.shortcut = nn.Linear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x + self.first(x))
        return self.head(self.shortcut(x) + self.second(x))


class Dense(nn.Module):
    """A network in which every layer reads all earlier ones."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2 + 3 * k, 3) for k in range(3))
        self.head = nn.Linear(11, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, nn.functional.relu(layer(x))], dim=-1)
        return self.head(x)


class SharedLinear(nn.Module):
    """One layer and one ReLU, applied three times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.relu, self.head = nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.relu(self.layer(x))
        return self.head(x)


class HandWritten(nn.Module):
    """Own parameters, slices, constants, a ReLU of a part and of the output."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        h = (x @ self.weight.T - 0.25) * self.scale
        left, right = h[..., :2].relu(), h[..., 2:]
        mixed = 2 * left.sum(-1, keepdim=True) - torch.relu(right) + right / 3
        return torch.relu(mixed.flip(-1) + 0.5)


class Nested(nn.Module):
    """Nested modules, some of which do nothing in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        body = nn.Sequential(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU()), nn.Dropout(), nn.Identity())
        self.body, self.head = (
            nn.ModuleDict({"inner": body}),
            nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body["inner"](x))


class Image(nn.Module):
    """A model from images to images."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(1, 3, 2, bias=False), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.convolution(x))
        return torch.relu(self.linear(h.flatten(1))).reshape(-1, 1, 2, 2) - x[..., :2, 1:]


class Splits(nn.Module):
    """Two branches, and an output that reads the input directly."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.skip = chain(4, 5, 2), chain(4, 3, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x).relu() - self.right(x) + self.skip(x)


INTERVAL = Box(0.0, 1.0)

ARRANGEMENTS = tuple(Specimen(a.name, a.module, (a.normals.shape[1],), a.regions) for a in HYPERPLANES)

DEEP = (
    *(Specimen(f"tent {n}", lambda n=n: tent(n), (1,), 2**n + (1 if n == 1 else 2)) for n in range(1, 7)),
    *(Specimen(f"tent {n} on [0, 1]", lambda n=n: tent(n), (1,), 2**n, INTERVAL) for n in (1, 2, 5, 10)),
    *(
        Specimen(f"tents {d}x{n} on [0, 1]^{d}", lambda d=d, n=n: folded(d, n), (d,), 2 ** (d * n), INTERVAL)
        for d, n in [(2, 3), (3, 2), (4, 2), (6, 1)]
    ),
    *(Specimen(f"identity {d}x{n}", lambda d=d, n=n: identity(d, n), (d,), 2**d) for d, n in [(1, 4), (3, 3), (5, 2)]),
)

DEGENERATE = (
    Specimen("trap", trap, (1,), 2),
    Specimen("no ReLU", lambda: nn.Linear(3, 2), (3,), 1),
    Specimen("no ReLU in a box", lambda: nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), (3,), 1, Box(-1.0, 1.0)),
    Specimen("no ReLU in a polytope", lambda: nn.Linear(2, 2), (2,), 1, Polytope([[1.0, 1.0]], [1.0])),
    Specimen("zero weights", lambda: changed(chain(3, 4, 4, 2), torch.zeros_like), (3,), 1),
    Specimen(
        "constant",
        lambda: nn.Sequential(linear([[0.0, 0.0]] * 3, [1.0, -1.0, 0.0]), nn.ReLU(), nn.Linear(3, 1)),
        (2,),
        1,
    ),
    Specimen(
        "constant stage",
        lambda: nn.Sequential(
            *chain(2, 4), nn.ReLU(), linear([[0.0] * 4] * 3, [1.0, -1.0, 0.0]), nn.ReLU(), *chain(3, 3, 1)
        ),
        (2,),
        11,
    ),
    Specimen(
        "nothing cut",
        lambda: nn.Sequential(linear([[1.0, 1.0], [1.0, -1.0]], [9.0, -9.0]), nn.ReLU(), nn.Linear(2, 1)),
        (2,),
        1,
        Box(-1.0, 1.0),
    ),
    Specimen(
        "zero at a corner",
        lambda: nn.Sequential(linear([[2.0]], [2.0]), nn.ReLU(), linear([[-1.0]], [-1.0]), nn.ReLU(), nn.Linear(1, 1)),
        (1,),
        1,
        Box(-1.0, 1.0),
    ),
    Specimen("width 1", lambda: changed(chain(3, 1, 1, 1, 1), torch.abs), (3,), 2),
    Specimen("one input", lambda: chain(1, 6, 5, 1), (1,)),
    Specimen("zero biases", lambda: changed(chain(3, 5, 4, 1), lambda p: p if p.dim() == 2 else 0.0 * p), (3,)),
    Specimen("no bias", lambda: chain(2, 6, 4, 2, bias=False), (2,)),
    Specimen(
        "dead neurons",
        lambda: nn.Sequential(
            *chain(2, 5), nn.ReLU(), changed(nn.Linear(5, 4), lambda p: -p.abs()), nn.ReLU(), nn.Linear(4, 1)
        ),
        (2,),
        16,
    ),
    Specimen(
        "duplicated",
        lambda: nn.Sequential(
            linear([[1.0, 2.0], [1.0, 2.0], [2.0, 4.0], [0.5, -1.0]], [1.0, 1.0, 2.0, 0.0]), nn.ReLU(), *chain(4, 4, 1)
        ),
        (2,),
    ),
    Specimen(
        "opposite",
        lambda: nn.Sequential(
            linear([[1.0, 2.0], [-1.0, -2.0], [0.3, -0.1], [-0.3, 0.1]], [1.0, -1.0, 0.2, -0.2]),
            nn.ReLU(),
            *chain(4, 4, 1),
        ),
        (2,),
    ),
    Specimen(
        "zero rows",
        lambda: nn.Sequential(
            linear([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], [0.0, 0.0, 1.0, -1.0]),
            nn.ReLU(),
            linear([[0.0] * 4, [1.0, -1.0, 2.0, 0.0]], [0.0, -1.0]),
            nn.ReLU(),
            nn.Linear(2, 1),
        ),
        (2,),
    ),
    Specimen("integer grid", lambda: changed(chain(2, 6, 5, 1), lambda p: (4 * p).round()), (2,)),
    Specimen(
        "signs", lambda: changed(chain(3, 5, 3, 1), lambda p: p.sign() if p.dim() == 2 else p.sign() * (p > 0)), (3,)
    ),
    Specimen("quantised", lambda: changed(chain(3, 6, 4, 1), lambda p: (8 * p).round() / 8), (3,)),
    Specimen(
        "coincident across stages",
        lambda: nn.Sequential(
            linear([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]], [0.5, -0.5, 0.0]),
            nn.ReLU(),
            linear([[1.0, -1.0, 0.0], [1.0, 1.0, -1.0]], [0.0, 0.0]),
            nn.ReLU(),
            nn.Linear(2, 1),
        ),
        (2,),
    ),
    Specimen(
        "absolute value",
        lambda: nn.Sequential(
            linear([[0.1, 0.7], [-0.1, -0.7]], [0.3, -0.3]),
            nn.ReLU(),
            linear([[1.0, -1.0], [1.0, 1.0]], [0.0, 0.0]),
            nn.ReLU(),
            nn.Linear(2, 1),
        ),
        (2,),
        2,
    ),
)

ARCHITECTURES = (
    random_mlp((2, 5, 4, 1)),
    random_mlp((3, 8, 8, 3)),
    random_mlp((3, 16, 16, 1), regions=5028),
    random_mlp((4, 7, 6, 5), Box([-1.0, 0.3, -float("inf"), 0.0], [1.0, 0.3, 2.0, float("inf")])),
    random_mlp((3, 6, 5, 2), Polytope([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.5]], [1.0, 0.5, 2.0])),
    random_mlp((30, 5, 4, 2)),
    Specimen("residual", Residual, (3,)),
    Specimen("densely connected", Dense, (2,)),
    Specimen("shared", SharedLinear, (3,)),
    Specimen("hand-written", HandWritten, (4,)),
    Specimen("nested", Nested, (3,)),
    Specimen("branches", Splits, (4,)),
    Specimen("image", Image, (1, 2, 3), None, Box(-1.0, 1.0)),
)

PIECEWISE = (
    Specimen("LeakyReLU", lambda: models.stacked(nn.LeakyReLU(0.2), 3, 6, 4, 2), (3,)),
    Specimen("LeakyReLU of slope above 1", lambda: models.stacked(nn.LeakyReLU(1.5), 2, 5, 4, 1), (2,)),
    Specimen("PReLU", lambda: models.stacked(nn.PReLU(), 3, 5, 4, 2), (3,)),
    Specimen("ReLU6", lambda: models.stacked(nn.ReLU6(), 2, 4, 3, 1), (2,)),
    Specimen("Hardtanh", lambda: models.stacked(nn.Hardtanh(), 2, 4, 3, 1), (2,)),
    Specimen("Threshold", lambda: models.stacked(nn.Threshold(0.3, 0.3), 2, 5, 4, 1), (2,)),
    Specimen("Maxout", models.Maxout, (2,)),
    Specimen("GroupSort", models.GroupSort, (2,)),
    Specimen("GroupSort of pairs", lambda: models.GroupSort(2), (2,)),
    Specimen("MaxMin", models.MaxMin, (3,)),
    Specimen("lattice", models.Lattice, (2,)),
    Specimen("U-Net", models.UNet, (1, 4)),
    Specimen("shared activation", models.SharedActivation, (2,)),
    Specimen("functional", models.Functional, (3,)),
    Specimen("recurrent cell", models.Recurrent, (4,)),
    Specimen("recurrent module", models.RecurrentModule, (3,)),
    Specimen("graph convolution", models.GraphConvolution, (4, 2)),
    Specimen("median filter", models.MedianFilter, (5,)),
    Specimen("top two", models.TopTwo, (2,)),
    Specimen("distances", models.Distance, (2,)),
    Specimen("clamped residual", models.ClampedResidual, (2,)),
    Specimen("autoencoder", models.Autoencoder, (3,)),
    Specimen("decoder", models.decoder, (2,)),
    Specimen("normalised", models.normalised, (3,)),
    Specimen(
        "overlapping pools",
        lambda: nn.Sequential(
            nn.Conv1d(1, 2, 2), nn.MaxPool1d(3, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)
        ),
        (1, 5),
    ),
    Specimen(
        "pooled image",
        lambda: nn.Sequential(
            nn.Conv2d(1, 1, 2, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d((2, 1)), nn.Flatten(), nn.Linear(2, 2)
        ),
        (1, 2, 2),
    ),
    Specimen(
        "volume",
        lambda: nn.Sequential(nn.Conv3d(1, 1, 2), nn.ReLU(), nn.MaxPool3d((1, 1, 2)), nn.Flatten(), nn.Linear(1, 1)),
        (1, 2, 2, 3),
        domain=Box(-1.0, 1.0),
    ),
)

WITH_HEAD = (
    Specimen("classifier", models.classifier, (3,)),
    Specimen("classifier in a box", models.classifier, (3,), domain=Box(-1.0, 2.0)),
)

ALL = (*ARRANGEMENTS, *DEEP, *DEGENERATE, *ARCHITECTURES, *PIECEWISE)
