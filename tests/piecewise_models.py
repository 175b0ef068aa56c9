"""Models with operations other than ReLU, small enough for all their regions to be found."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


def stacked(activation: nn.Module, *sizes: int) -> nn.Sequential:
    """Return linear layers of these sizes with one shared activation module between them."""
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), activation)]
    return nn.Sequential(*layers[:-1])


class Maxout(nn.Module):
    """The largest of three affine functions for each unit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 9), nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).view(-1, 3, 3).max(dim=2).values
        return self.second(h).view(-1, 2, 3).amax(-1)


class GroupSort(nn.Module):
    """Hidden values sorted in groups, as in networks with Lipschitz constant one."""

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.size = size
        self.first, self.second, self.last = (
            parametrizations.spectral_norm(nn.Linear(2, 6)),
            parametrizations.spectral_norm(nn.Linear(6, 6)),
            nn.Linear(6, 1),
        )

    def sorted(self, h: Tensor) -> Tensor:
        return h.unflatten(1, (-1, self.size)).sort(dim=-1).values.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.sorted(self.second(self.sorted(self.first(x)))))


class MaxMin(nn.Module):
    """The larger and the smaller of two halves."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 4)]), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            a, b = layer(x).chunk(2, dim=1)
            x = torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1)
        return self.head(x)


class Lattice(nn.Module):
    """A minimum of maxima of affine functions, a form that every continuous piecewise-linear function has."""

    def __init__(self) -> None:
        super().__init__()
        self.planes = nn.Linear(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.planes(x).view(-1, 3, 2).amax(2).amin(1, keepdim=True)


class UNet(nn.Module):
    """Downsampling by max pooling and upsampling by nearest neighbours, with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = nn.Conv1d(1, 1, 3, padding=1), nn.Conv1d(1, 2, 3, padding=1)
        self.up, self.pool = nn.Conv1d(3, 1, 1), nn.MaxPool1d(2)

    def forward(self, x: Tensor) -> Tensor:
        skip = torch.relu(self.down(x))
        low = F.relu(self.middle(self.pool(skip)))
        return self.up(torch.cat([skip, F.interpolate(low, scale_factor=2)], dim=1))


class SharedActivation(nn.Module):
    """One ReLU module called three times, twice in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.relu = nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 2), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.a(x))
        h = h + self.relu(self.b(h))
        return self.relu(self.c(h))


class Functional(nn.Module):
    """Own parameters and functions of torch.nn.functional."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(5))
        self.act = partial(F.leaky_relu, negative_slope=0.3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(F.linear(x, self.w, self.b))
        h = F.hardtanh(h, -0.5, 2.0) - F.avg_pool1d(h[:, None], 2, 1, padding=1)[:, 0, :5]
        return F.max_pool1d(F.pad(h, (1, 0))[:, None], 2, 2).flatten(1)


class Recurrent(nn.Module):
    """A recurrent cell unrolled by hand over the entries of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.readout = nn.RNNCell(1, 3, nonlinearity="relu"), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = None
        for step in range(4):
            h = self.cell(x[:, step : step + 1], h)
        return self.readout(h)


class RecurrentModule(nn.Module):
    """A recurrent network by nn.RNN, in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 2, nonlinearity="relu", batch_first=True, bidirectional=True)
        self.readout = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        states, last = self.rnn(x[..., None])
        return self.readout(torch.cat([states[:, -1], last.movedim(0, 1).flatten(1)], 1))


class GraphConvolution(nn.Module):
    """Two layers on a ring of four nodes with two features each."""

    adjacency: Tensor

    def __init__(self) -> None:
        super().__init__()
        ring = torch.eye(4) + torch.eye(4).roll(1, 0) + torch.eye(4).roll(-1, 0)
        self.register_buffer("adjacency", ring / 3)
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.adjacency @ self.first(x))
        return torch.einsum("ij,bjf->bif", self.adjacency, self.second(h)).mean(1)


class MedianFilter(nn.Module):
    """The median of three neighbours, followed by an affine function."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        windows = torch.stack([x[:, :3], x[:, 1:4], x[:, 2:]], -1)
        return self.weights(windows.median(-1).values)


class TopTwo(nn.Module):
    """The sum of the two largest and the second smallest of some affine functions."""

    def __init__(self) -> None:
        super().__init__()
        self.planes = nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.planes(x)
        return torch.stack([h.topk(2).values.sum(1), h.kthvalue(2).values], 1)


class Distance(nn.Module):
    """The sum of absolute differences to prototypes, and the smallest one."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, None] - self.prototypes).abs().sum(-1).min(1, keepdim=True)[0]


class ClampedResidual(nn.Module):
    """A residual step whose result is clamped to a box with an upper end that depends on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.limit = nn.Linear(2, 2), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + torch.relu(self.step(x))).clamp(min=-1.0).clamp(max=self.limit(x))


class Autoencoder(nn.Module):
    """Sparse by soft thresholds, saturated by hard sigmoids."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 3), nn.Softshrink(0.2))
        self.decoder = nn.Sequential(nn.Linear(3, 3), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def decoder() -> nn.Sequential:
    """Return a decoder from a vector to an image, by transposed convolution and pixel shuffling."""
    return nn.Sequential(
        nn.Linear(2, 4),
        nn.ReLU6(),
        nn.Unflatten(1, (4, 1, 1)),
        nn.PixelShuffle(2),
        nn.ConvTranspose2d(1, 1, 2),
        nn.LeakyReLU(0.1, inplace=True),
        nn.UpsamplingBilinear2d((2, 2)),
    )


def normalised() -> nn.Sequential:
    """Return a model with running statistics and weight normalisation."""
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(3, 4)),
        nn.BatchNorm1d(4),
        nn.PReLU(4),
        nn.Dropout(),
        nn.Unflatten(1, (2, 2)),
        nn.InstanceNorm1d(2, track_running_stats=True, affine=True),
        nn.RReLU(),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(16, 3))  # updates the statistics
    return model


def classifier() -> nn.Sequential:
    """Return a model that ends with a softmax."""
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), nn.Softmax(-1))


class Decision(nn.Module):
    """A model that ends with the number of the largest logit."""

    def __init__(self) -> None:
        super().__init__()
        self.body = stacked(nn.ReLU(), 2, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).argmax(dim=1)


def digits_cnn(side: int = 8) -> nn.Sequential:
    """Return conv-bn-relu-maxpool-conv-relu-avgpool-linear for square images with one channel."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (side // 4) ** 2, 10),
    )
