"""List the allowed operations, and in which of their arguments each is affine.

A rule has one word for each leading argument of an operation, in order:

- `input`: the result is affine in it, jointly with the other plain words;
- `=input`: the same, and the result may share its memory;
- `*input *other`: affine in either, as long as the other does not depend on the model's input;
- `-condition`: must not depend on the model's input;
- `#input`: only its shape, dtype or device is used, so the result does not depend on its values.

Arguments without a word must not depend on the model's input. `torch.add`, `operator.add`, `Tensor.add`, `+`, `+=` and
`add_` are one operation, `add`; an attribute such as `x.T` is the operation `.T`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Rule:
    """Describe how an operation may depend on the input of the model.

    Attributes:
        parameters: names of the leading arguments.
        kinds: for each of them `"+"` (affine), `"="` (affine, may share its memory), `"*"` (a factor), `"-"` (constant)
            or `"#"` (only its shape is used).
    """

    parameters: tuple[str, ...]
    kinds: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Parse a rule, written as the module's docstring describes."""
        words = text.split()
        return cls(tuple(word.lstrip("=*-#") for word in words), tuple(w[0] if w[0] in "=*-#" else "+" for w in words))

    def kind(self, slot: int | str) -> str:
        """Return the kind of an argument given by position or by name; `"-"` for one that the rule does not name."""
        if isinstance(slot, str):
            slot = self.parameters.index(slot) if slot in self.parameters else len(self.kinds)
        return self.kinds[slot] if slot < len(self.kinds) else "-"


_RULES = {
    # Views and casts.
    "=input": """
        reshape view flatten unflatten squeeze unsqueeze permute transpose t swapaxes swapdims movedim moveaxis .T .mT
        getitem chunk split tensor_split hsplit vsplit dsplit unbind narrow select diagonal expand broadcast_to unfold
        ravel contiguous detach .data pos positive float double half bfloat16 type cpu cuda .values .indices
        dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout
        """,
    "=input #other": "view_as reshape_as expand_as type_as to",
    # Rearrangements and sums of entries.
    "input": """
        clone index_select gather take_along_dim repeat repeat_interleave tile roll flip fliplr flipud rot90 tril triu
        zero fill sum mean cumsum diff sum_to_size neg negative diag_embed pad constant_pad_nd fold
        pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle batch_norm instance_norm
        interpolate grid_sample
        avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
        """,
    "tensors": "cat concat concatenate stack hstack vstack dstack column_stack row_stack",
    "input other": "add sub subtract rsub copy",
    "input end -weight": "lerp",
    "input *tensor1 *tensor2": "addcmul",
    "input tensor1 -tensor2": "addcdiv",
    "input -dim -index source": "index_add index_copy",
    "input -dim -index src": "scatter scatter_add",
    "input -mask source": "masked_scatter",
    "input -index value": "setitem",
    "-condition input other": "where",
    "input -condition other": ".where",
    "input -mask value": "masked_fill",
    "input -nan -posinf -neginf": "nan_to_num",  # the input is finite
    "input -dim -index value": "index_fill",
    "*input *other": "mul multiply matmul mm mv bmm dot inner outer ger kron tensordot cross _sparse_mm",
    "-equation *input *other": "einsum",
    "*input *weight bias": """
        linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
        """,
    "input *mat1 *mat2": "addmm addmv addr addbmm baddbmm",
    "*input1 *input2 -weight bias": "bilinear",
    "input -other": "div divide true_divide truediv",
    # Properties of a tensor that do not depend on its values.
    "#input": """
        size dim ndimension numel nelement stride get_device is_floating_point is_complex is_contiguous
        .shape .ndim .dtype .device .is_cuda .layout .requires_grad .is_leaf
        zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty new_tensor
        """,
}

# Operations that occur only in graphs of `torch.export`.
_ATEN_RULES = {
    "=input": "alias slice split_with_sizes lift_fresh",
    "input": """
        index lift_fresh_copy unsafe_split unsafe_chunk unsafe_split_with_sizes _to_copy _unsafe_view _reshape_copy
        view_copy expand_copy permute_copy slice_copy select_copy unsqueeze_copy squeeze_copy transpose_copy t_copy
        _native_batch_norm_legit_no_training _adaptive_avg_pool2d _adaptive_avg_pool3d
        upsample_nearest1d upsample_nearest2d upsample_nearest3d
        _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
        upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d
        reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
        """,
    "input src": "slice_scatter select_scatter diagonal_scatter",
    "input -index value": "index_put",
    "*input *weight bias": "convolution",
    "#input": "sym_size sym_numel sym_stride",
}

# Operations that are rewritten with ReLUs; the words tell which arguments may depend on the input.
_PIECEWISE_RULES = {
    "input": "relu relu6 hardsigmoid abs absolute msort",
    "input -min_val -max_val": "hardtanh",
    "input -negative_slope": "leaky_relu",
    "input -weight": "prelu _prelu_kernel",
    "input -lower -upper -training": "rrelu",
    "input -threshold -value": "threshold",
    "input -lambd": "softshrink",
    "input min max": "clamp clip",
    "input min": "clamp_min",
    "input max": "clamp_max",
    "input other": "maximum minimum fmax fmin",
    "input -dim -keepdim": "amax amin median",
    "input dim -keepdim": "max min",
    "input -dim -descending -stable": "sort",
    "input -k -dim -largest -sorted": "topk",
    "input -k -dim -keepdim": "kthvalue",
    "input -kernel_size -stride -padding -dilation -ceil_mode -return_indices": """
        max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
        """,
    "input -output_size -return_indices": """
        adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d adaptive_max_pool1d_with_indices
        adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices
        """,
    "input -dim -index src -reduce -include_self": "scatter_reduce",
    "input hx -nonlinearity -weights": "rnn_cell",
    "input hx -w_ih -w_hh -b_ih -b_hh": "rnn_relu_cell",
    "input hx -nonlinearity -weights -bidirectional -batch_first": "rnn",
}

RULES, ATEN_RULES, PIECEWISE_RULES = (
    {name: Rule.parse(text) for text, names in rules.items() for name in names.split()}
    for rules in (_RULES, _ATEN_RULES, _PIECEWISE_RULES)
)

PIECEWISE_MODULES: dict[type[nn.Module], tuple[str, str]] = {
    nn.ReLU: ("relu", ""),
    nn.ReLU6: ("relu6", ""),
    nn.Hardtanh: ("hardtanh", "min_val max_val"),
    nn.Hardsigmoid: ("hardsigmoid", ""),
    nn.LeakyReLU: ("leaky_relu", "negative_slope"),
    nn.PReLU: ("prelu", "weight"),
    nn.RReLU: ("rrelu", "lower upper"),
    nn.Threshold: ("threshold", "threshold value"),
    nn.Softshrink: ("softshrink", "lambd"),
    nn.MaxPool1d: ("max_pool1d", "kernel_size stride padding dilation ceil_mode return_indices"),
    nn.MaxPool2d: ("max_pool2d", "kernel_size stride padding dilation ceil_mode return_indices"),
    nn.MaxPool3d: ("max_pool3d", "kernel_size stride padding dilation ceil_mode return_indices"),
    nn.AdaptiveMaxPool1d: ("adaptive_max_pool1d", "output_size return_indices"),
    nn.AdaptiveMaxPool2d: ("adaptive_max_pool2d", "output_size return_indices"),
    nn.AdaptiveMaxPool3d: ("adaptive_max_pool3d", "output_size return_indices"),
    nn.RNNCell: ("rnn_cell", "nonlinearity"),
    nn.RNN: ("rnn", "nonlinearity bidirectional batch_first"),
}
"""The operation of a module, and its attributes that are arguments of the operation."""

VIEW_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten)
AFFINE_MODULES = (
    nn.Linear,
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
    *(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    *(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
    *(nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Fold, nn.Unfold),
    *(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d),
)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
RUNNING_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


def names_of(text: str) -> frozenset[str]:
    """Split a text into words."""
    return frozenset(text.split())


DECISIONS = names_of(
    """
        gt ge lt le eq ne greater greaterequal less lessequal notequal sign sgn heaviside round floor ceil trunc
    """
)
"""Discontinuous operations that may end a model that returns their result, not a value chosen by it."""

HEADS = DECISIONS | names_of(
    """
        sigmoid logsigmoid tanh softmax softmax2d logsoftmax softmin exp exp2 expm1 log log2 log10 log1p sin cos
        tan atan arctan sinh cosh sqrt rsqrt square pow gelu silu mish swish elu selu celu softplus softsign
        tanhshrink hardswish erf erfc norm vectornorm linalgvectornorm normalize linalgnorm reciprocal logsumexp
        logcumsumexp glu layernorm groupnorm rmsnorm localresponsenorm argmax argmin argsort cosinesimilarity
        safesoftmax nativelayernorm
    """
)
"""Operations that may end a model without being piecewise linear, in lower case and without underscores."""


def may_end(operation: str) -> bool:
    """Tell whether an operation that is not piecewise linear may end a model."""
    return _key(operation) in HEADS


def is_decision(operation: str) -> bool:
    """Tell whether an operation may end a model only if its own result is returned, not a value chosen by it."""
    return _key(operation) in DECISIONS


def _key(operation: str) -> str:
    return operation.lower().replace("_", "").lstrip(".")


_WAYS_OUT = {
    "is not piecewise linear, and does not end the model; put a ReLU in its place and train again": """
        softmax softmax2d logsoftmax softmin exp log sin cos sqrt square pow gelu silu mish
        swish elu selu celu softplus softsign tanhshrink hardswish erf norm normalize reciprocal logsumexp glu
        """,
    "is not piecewise linear, and does not end the model; put a Hardsigmoid in its place and train again": """
        sigmoid logsigmoid
        """,
    "is not piecewise linear, and does not end the model; put a Hardtanh in its place and train again": "tanh",
    "multiplies values that depend on the input (attention), which is not piecewise linear; transform the part of the "
    "model before it, or after it": """
        multiheadattention scaleddotproductattention transformer transformerencoder transformerencoderlayer
        transformerdecoder transformerdecoderlayer
        """,
    "multiplies its gates, which is not piecewise linear; put nn.RNN(..., nonlinearity='relu') in its place and train "
    "again": "lstm lstmcell gru grucell",
    "jumps at its threshold, which is not continuous; use Softshrink": "hardshrink",
    "divides by a statistic of its input, which is not affine; use BatchNorm in eval mode": """
        layernorm groupnorm localresponsenorm crossmaplrn2d rmsnorm
        """,
    "turns a value that depends on the input into a Python number; keep it a tensor": "item tolist numpy bool int",
    "compares values that depend on the input, which is not continuous; express the choice with relu": """
        gt ge lt le eq ne greater less greaterequal lessequal sign heaviside step argmax argmin sort topk
        """,
}
_WAY_OUT = {name: text for text, names in _WAYS_OUT.items() for name in names.split()}


def way_out(operation: str) -> str:
    """Suggest what to do about an operation (a class of modules or a function) that is not on the list."""
    return _WAY_OUT.get(
        _key(operation), "is not on the list of piecewise-linear operations; replace it by operations that are"
    )
