"""Every class of torch.nn is either read, and equal to what it computes, or refused by one clear error."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torch_shallow.errors import TransformError
from torch_shallow.program.model import read_model

VECTOR, SEQUENCE, IMAGE, VOLUME = (6,), (4, 6), (4, 4, 6), (4, 4, 4, 4)


class Held(nn.Module):
    """A module whose other arguments are constants, one row for each input."""

    def __init__(self, module: nn.Module, *others: Tensor) -> None:
        super().__init__()
        self.module, self.names = module, [f"other{i}" for i in range(len(others))]
        for name, other in zip(self.names, others, strict=True):
            self.register_buffer(name, other)

    def forward(self, x: Tensor) -> Any:
        others = [getattr(self, name) for name in self.names]
        rows = [(x.new_zeros(x.shape[0], *other.shape[1:]) + other).to(other.dtype) for other in others]
        return self.module(x, *rows)


class First(nn.Module):
    """The first of several results of a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)[0]


class ThenReLU(nn.Module):
    """A module in the middle of a model, so that it cannot be its head."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.module(x) - 0.1)


def row(*shape: int) -> Tensor:
    return torch.rand(1, *shape)


@dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module]
    in_shape: tuple[int, ...]


def cases(shape: tuple[int, ...], **makers: Callable[[], nn.Module]) -> dict[str, Case]:
    return {name: Case(make, shape) for name, make in makers.items()}


SUPPORTED = {
    **cases(
        VECTOR,
        Linear=lambda: nn.Linear(6, 4),
        LazyLinear=lambda: nn.LazyLinear(4),
        Bilinear=lambda: Held(nn.Bilinear(6, 3, 4), row(3)),
        Identity=nn.Identity,
        Sequential=lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU()),
        Dropout=nn.Dropout,
        AlphaDropout=nn.AlphaDropout,
        FeatureAlphaDropout=nn.FeatureAlphaDropout,
        BatchNorm1d=lambda: nn.BatchNorm1d(6),
        LazyBatchNorm1d=nn.LazyBatchNorm1d,
        SyncBatchNorm=lambda: nn.SyncBatchNorm(6),
        Unflatten=lambda: nn.Unflatten(1, (2, 3)),
        ReLU=nn.ReLU,
        ReLU6=nn.ReLU6,
        LeakyReLU=lambda: nn.LeakyReLU(0.3),
        PReLU=lambda: nn.PReLU(6),
        RReLU=nn.RReLU,
        Hardtanh=lambda: nn.Hardtanh(-0.5, 0.3),
        Hardsigmoid=nn.Hardsigmoid,
        Softshrink=lambda: nn.Softshrink(0.2),
        Threshold=lambda: nn.Threshold(0.2, 0.2),
        RNNCell=lambda: nn.RNNCell(6, 4, nonlinearity="relu"),
    ),
    **cases(
        SEQUENCE,
        Flatten=nn.Flatten,
        Conv1d=lambda: nn.Conv1d(4, 3, 2, dilation=2, groups=1, padding="same"),
        LazyConv1d=lambda: nn.LazyConv1d(3, 2),
        ConvTranspose1d=lambda: nn.ConvTranspose1d(4, 3, 2, stride=2, output_padding=1),
        LazyConvTranspose1d=lambda: nn.LazyConvTranspose1d(3, 2),
        AvgPool1d=lambda: nn.AvgPool1d(2, 1, 1, count_include_pad=False),
        AdaptiveAvgPool1d=lambda: nn.AdaptiveAvgPool1d(4),
        MaxPool1d=lambda: nn.MaxPool1d(3, 2, padding=1, dilation=2),
        AdaptiveMaxPool1d=lambda: nn.AdaptiveMaxPool1d(4),
        InstanceNorm1d=lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
        LazyInstanceNorm1d=lambda: nn.LazyInstanceNorm1d(track_running_stats=True),
        Dropout1d=nn.Dropout1d,
        ZeroPad1d=lambda: nn.ZeroPad1d(1),
        ConstantPad1d=lambda: nn.ConstantPad1d(1, 0.5),
        ReflectionPad1d=lambda: nn.ReflectionPad1d(2),
        ReplicationPad1d=lambda: nn.ReplicationPad1d(2),
        CircularPad1d=lambda: nn.CircularPad1d(2),
        RNN=lambda: First(nn.RNN(6, 3, num_layers=2, nonlinearity="relu", bidirectional=True, batch_first=True)),
    ),
    **cases(
        IMAGE,
        Conv2d=lambda: nn.Conv2d(4, 4, (2, 3), stride=(1, 2), padding=1, groups=2),
        LazyConv2d=lambda: nn.LazyConv2d(3, 2, padding_mode="reflect", padding=1),
        ConvTranspose2d=lambda: nn.ConvTranspose2d(4, 3, 2),
        LazyConvTranspose2d=lambda: nn.LazyConvTranspose2d(3, 2),
        BatchNorm2d=lambda: nn.BatchNorm2d(4),
        LazyBatchNorm2d=nn.LazyBatchNorm2d,
        InstanceNorm2d=lambda: nn.InstanceNorm2d(4, track_running_stats=True),
        LazyInstanceNorm2d=lambda: nn.LazyInstanceNorm2d(track_running_stats=True),
        AvgPool2d=lambda: nn.AvgPool2d(3, 2, ceil_mode=True),
        AdaptiveAvgPool2d=lambda: nn.AdaptiveAvgPool2d((None, 4)),
        MaxPool2d=lambda: nn.MaxPool2d((2, 3), (1, 2), padding=(1, 0), ceil_mode=True),
        AdaptiveMaxPool2d=lambda: nn.AdaptiveMaxPool2d((3, None)),
        Dropout2d=nn.Dropout2d,
        ZeroPad2d=lambda: nn.ZeroPad2d(1),
        ConstantPad2d=lambda: nn.ConstantPad2d(1, 0.5),
        ReflectionPad2d=lambda: nn.ReflectionPad2d(2),
        ReplicationPad2d=lambda: nn.ReplicationPad2d(2),
        CircularPad2d=lambda: nn.CircularPad2d(2),
        PixelShuffle=lambda: nn.PixelShuffle(2),
        PixelUnshuffle=lambda: nn.PixelUnshuffle(2),
        ChannelShuffle=lambda: nn.ChannelShuffle(2),
        Upsample=lambda: nn.Upsample(scale_factor=2, mode="bicubic"),
        UpsamplingNearest2d=lambda: nn.UpsamplingNearest2d(scale_factor=2),
        UpsamplingBilinear2d=lambda: nn.UpsamplingBilinear2d((5, 7)),
        Unfold=lambda: nn.Unfold(2),
    ),
    **cases((8, 9), Fold=lambda: nn.Fold((4, 4), 2)),
    **cases(
        VOLUME,
        Conv3d=lambda: nn.Conv3d(4, 2, 2),
        LazyConv3d=lambda: nn.LazyConv3d(2, 2),
        ConvTranspose3d=lambda: nn.ConvTranspose3d(4, 2, 2),
        LazyConvTranspose3d=lambda: nn.LazyConvTranspose3d(2, 2),
        BatchNorm3d=lambda: nn.BatchNorm3d(4),
        LazyBatchNorm3d=nn.LazyBatchNorm3d,
        InstanceNorm3d=lambda: nn.InstanceNorm3d(4, track_running_stats=True),
        LazyInstanceNorm3d=lambda: nn.LazyInstanceNorm3d(track_running_stats=True),
        AvgPool3d=lambda: nn.AvgPool3d(2),
        AdaptiveAvgPool3d=lambda: nn.AdaptiveAvgPool3d(3),
        MaxPool3d=lambda: nn.MaxPool3d(2),
        AdaptiveMaxPool3d=lambda: nn.AdaptiveMaxPool3d((1, 2, 1)),
        Dropout3d=nn.Dropout3d,
        ZeroPad3d=lambda: nn.ZeroPad3d(1),
        ConstantPad3d=lambda: nn.ConstantPad3d(1, 0.5),
        ReflectionPad3d=lambda: nn.ReflectionPad3d(1),
        ReplicationPad3d=lambda: nn.ReplicationPad3d(1),
        CircularPad3d=lambda: nn.CircularPad3d(1),
    ),
}

REFUSED = {
    **cases(
        VECTOR,
        Sigmoid=nn.Sigmoid,
        LogSigmoid=nn.LogSigmoid,
        Tanh=nn.Tanh,
        Tanhshrink=nn.Tanhshrink,
        Hardshrink=nn.Hardshrink,
        Hardswish=nn.Hardswish,
        ELU=nn.ELU,
        CELU=nn.CELU,
        SELU=nn.SELU,
        GELU=nn.GELU,
        GLU=nn.GLU,
        SiLU=nn.SiLU,
        Mish=nn.Mish,
        Softplus=nn.Softplus,
        Softsign=nn.Softsign,
        Softmax=lambda: nn.Softmax(-1),
        LogSoftmax=lambda: nn.LogSoftmax(-1),
        Softmin=lambda: nn.Softmin(-1),
        LayerNorm=lambda: nn.LayerNorm(6),
        RMSNorm=lambda: nn.RMSNorm(6),
        GroupNorm=lambda: nn.GroupNorm(2, 6),
        LSTMCell=lambda: First(nn.LSTMCell(6, 3)),
        GRUCell=lambda: nn.GRUCell(6, 3),
        RNNCellBase=lambda: nn.RNNCellBase(6, 3, True, 1),
        CosineSimilarity=lambda: Held(nn.CosineSimilarity(), row(6)),
        PairwiseDistance=lambda: Held(nn.PairwiseDistance(), row(6)),
        Embedding=lambda: nn.Embedding(9, 3),
        EmbeddingBag=lambda: nn.EmbeddingBag(9, 3),
        AdaptiveLogSoftmaxWithLoss=lambda: Held(nn.AdaptiveLogSoftmaxWithLoss(6, 9, [2]), torch.zeros(1).long()),
        ParameterList=lambda: nn.ParameterList([row(6)]),
        ParameterDict=lambda: nn.ParameterDict({"a": row(6)}),
        ModuleList=lambda: nn.ModuleList([nn.Linear(6, 2)]),
        ModuleDict=lambda: nn.ModuleDict({"a": nn.Linear(6, 2)}),
        NLLLoss2d=lambda: Held(nn.NLLLoss2d(), torch.zeros(1).long()),
        Container=nn.Container,
        Module=nn.Module,
        **{
            name: (lambda name=name: Held(getattr(nn, name)(), row(6)))
            for name in (
                *("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss", "KLDivLoss", "BCELoss", "BCEWithLogitsLoss"),
                *("SoftMarginLoss", "MultiLabelSoftMarginLoss", "PoissonNLLLoss", "HingeEmbeddingLoss"),
                *("CrossEntropyLoss",),
            )
        },
        **{
            name: (lambda name=name: Held(getattr(nn, name)(), torch.zeros(1).long()))
            for name in ("NLLLoss", "MultiMarginLoss")
        },
        LinearCrossEntropyLoss=lambda: Held(nn.LinearCrossEntropyLoss(6, 3), torch.zeros(1).long()),
        MultiLabelMarginLoss=lambda: Held(nn.MultiLabelMarginLoss(), torch.zeros(1, 6).long()),
        GaussianNLLLoss=lambda: Held(nn.GaussianNLLLoss(), row(6), row(6)),
        MarginRankingLoss=lambda: Held(nn.MarginRankingLoss(), row(6), row(6)),
        CosineEmbeddingLoss=lambda: Held(nn.CosineEmbeddingLoss(), row(6), row().reshape(1)),
        TripletMarginLoss=lambda: Held(nn.TripletMarginLoss(), row(6), row(6)),
        TripletMarginWithDistanceLoss=lambda: Held(nn.TripletMarginWithDistanceLoss(), row(6), row(6)),
    ),
    **cases(
        SEQUENCE,
        LSTM=lambda: First(nn.LSTM(6, 3, batch_first=True)),
        GRU=lambda: First(nn.GRU(6, 3, batch_first=True)),
        RNNBase=lambda: First(nn.RNNBase("RNN_TANH", 6, 3, batch_first=True)),
        LPPool1d=lambda: nn.LPPool1d(2, 2),
        MaxUnpool1d=lambda: Held(nn.MaxUnpool1d(2), torch.zeros(1, 4, 6).long()),
        MultiheadAttention=lambda: First(Held(nn.MultiheadAttention(6, 2, batch_first=True), row(4, 6), row(4, 6))),
        TransformerEncoderLayer=lambda: nn.TransformerEncoderLayer(6, 2, 4, batch_first=True),
        TransformerEncoder=lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 4, batch_first=True), 1),
        TransformerDecoderLayer=lambda: Held(nn.TransformerDecoderLayer(6, 2, 4, batch_first=True), row(4, 6)),
        TransformerDecoder=lambda: Held(
            nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 4, batch_first=True), 1), row(4, 6)
        ),
        Transformer=lambda: Held(nn.Transformer(6, 2, 1, 1, 4, batch_first=True), row(4, 6)),
        CTCLoss=lambda: Held(nn.CTCLoss(), torch.ones(1, 2).long(), torch.ones(1).long(), torch.ones(1).long()),
    ),
    **cases(
        IMAGE,
        Softmax2d=nn.Softmax2d,
        LocalResponseNorm=lambda: nn.LocalResponseNorm(2),
        CrossMapLRN2d=lambda: nn.CrossMapLRN2d(2),
        LPPool2d=lambda: nn.LPPool2d(2, 2),
        FractionalMaxPool2d=lambda: nn.FractionalMaxPool2d(2, 2),
        MaxUnpool2d=lambda: Held(nn.MaxUnpool2d(2), torch.zeros(1, 4, 4, 6).long()),
    ),
    **cases(
        VOLUME,
        LPPool3d=lambda: nn.LPPool3d(2, 2),
        FractionalMaxPool3d=lambda: nn.FractionalMaxPool3d(2, 2),
        MaxUnpool3d=lambda: Held(nn.MaxUnpool3d(2), torch.zeros(1, 4, 4, 4, 4).long()),
    ),
}

ELSEWHERE = {"DataParallel"}  # see test_wrappers.py


def classes() -> set[str]:
    return {kind.__name__ for _, kind in inspect.getmembers(nn, inspect.isclass) if issubclass(kind, nn.Module)}


def test_every_class_is_here() -> None:
    """A class that a later torch adds has to be looked at; one that an earlier torch lacks does no harm."""
    assert classes() - ELSEWHERE <= {*SUPPORTED, *REFUSED}
    assert not {*SUPPORTED} & {*REFUSED}


def made(case: Case) -> nn.Module:
    torch.manual_seed(0)
    module = case.make()
    with torch.no_grad():
        for parameter in module.parameters():
            if not isinstance(parameter, nn.UninitializedParameter):
                parameter.uniform_(-1.0, 1.0)
    return module


@pytest.mark.parametrize("wrap", [lambda module: module, ThenReLU], ids=["alone", "in the middle"])
@pytest.mark.parametrize("name", sorted({*SUPPORTED} & classes()))
def test_supported(name: str, wrap: Callable[[nn.Module], nn.Module]) -> None:
    case = SUPPORTED[name]
    model = wrap(made(case).double())
    with torch.no_grad():
        model(torch.randn(5, *case.in_shape).double())  # makes lazy modules, moves running statistics
        x = torch.randn(9, *case.in_shape).double()
        expected = model.eval()(x)
    program = read_model(model, x)
    found = program(x.reshape(9, -1).numpy()).reshape(expected.shape)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize("wrap", [lambda module: module, ThenReLU], ids=["alone", "in the middle"])
@pytest.mark.parametrize("name", sorted({*REFUSED} & classes()))
def test_refused(name: str, wrap: Callable[[nn.Module], nn.Module]) -> None:
    case = REFUSED[name]
    with pytest.raises(TransformError) as caught:
        read_model(wrap(made(case)).eval(), torch.randn(5, *case.in_shape))
    message = str(caught.value)
    assert message.startswith("model: ")
    assert name in message or "forward()" in message
    assert len(message.splitlines()) <= 3


@pytest.mark.parametrize("name", sorted({*SUPPORTED} & classes()))
def test_train_mode_is_refused_unless_it_changes_nothing(name: str) -> None:
    case = SUPPORTED[name]
    module = made(case).double()
    with torch.no_grad():
        module(torch.randn(5, *case.in_shape).double())
    module.train()
    random = any(word in name for word in ("Dropout", "Norm", "RReLU"))
    if not random:
        assert read_model(module, torch.randn(5, *case.in_shape)).in_shape == case.in_shape
        return
    with pytest.raises(TransformError, match=r"model\.eval\(\)"):
        read_model(module, torch.randn(5, *case.in_shape))
