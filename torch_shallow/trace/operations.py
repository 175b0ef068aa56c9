"""The allow-list: which operations are affine in which of their arguments.

A rule has one word for each leading argument of an operation, in order:

- `input`: the result is affine in it, together with the other plain words;
- `=input`: likewise, and the result may share its memory;
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
    """How an operation may depend on the input of the model.

    Attributes:
        parameters: names of the leading arguments.
        kinds: for each of them `"+"` (affine), `"="` (affine, may share its memory), `"*"` (a factor), `"-"`
            (constant) or `"#"` (only its shape is used).
    """

    parameters: tuple[str, ...]
    kinds: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Rule:
        """The rule written as `text` (see the docstring of the module)."""
        words = text.split()
        return cls(tuple(word.lstrip("=*-#") for word in words), tuple(w[0] if w[0] in "=*-#" else "+" for w in words))

    def kind(self, slot: int | str) -> str:
        """Kind of an argument given by position or by name; `"-"` for one that the rule does not name."""
        if isinstance(slot, str):
            slot = self.parameters.index(slot) if slot in self.parameters else len(self.kinds)
        return self.kinds[slot] if slot < len(self.kinds) else "-"


_RULES = {
    # Views and casts.
    "=input": """
        reshape view flatten unflatten squeeze unsqueeze permute transpose t swapaxes swapdims movedim moveaxis .T .mT
        getitem chunk split tensor_split unbind narrow select diagonal expand broadcast_to unfold
        contiguous detach pos positive float double half bfloat16 cpu cuda
        dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout
        """,
    "=input #other": "view_as reshape_as expand_as type_as to",
    # Rearrangements and sums of entries.
    "input": """
        clone index_select gather take_along_dim repeat repeat_interleave tile roll flip fliplr flipud rot90 tril triu
        zero fill sum mean cumsum diff neg negative pad constant_pad_nd fold pixel_shuffle pixel_unshuffle batch_norm
        avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
        """,
    "tensors": "cat concat concatenate stack hstack vstack",
    "input other": "add sub subtract rsub radd copy",
    "input -index value": "setitem",
    "-condition input other": "where",
    "input -mask value": "masked_fill",
    "*input *other": "mul multiply rmul matmul rmatmul mm mv bmm dot inner outer kron tensordot",
    "-equation *input *other": "einsum",
    "*input *weight bias": """
        linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
        """,
    "input *mat1 *mat2": "addmm addmv addbmm baddbmm",
    "input -other": "div divide true_divide truediv",
    # What a model may ask of a tensor without looking at its values.
    "#input": """
        size dim ndimension numel nelement len stride get_device is_floating_point is_complex is_contiguous
        .shape .ndim .dtype .device .is_cuda .layout .requires_grad .is_leaf
        zeros_like ones_like full_like new_zeros new_ones new_full new_tensor
        """,
}

RULES = {name: Rule.parse(text) for text, names in _RULES.items() for name in names.split()}
RELUS = frozenset({"relu"})

VIEW_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten)
AFFINE_MODULES = (
    nn.Linear,
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
    *(nn.PixelShuffle, nn.PixelUnshuffle, nn.Fold, nn.Unfold),
)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

_WAYS_OUT = {
    "is piecewise linear but not read yet; write it as slope * x + (1 - slope) * relu(x)": "leakyrelu prelu rrelu",
    "is piecewise linear but not read yet; write it as relu(x) + relu(-x)": "abs absolute",
    "is piecewise linear but not read yet; write it as a + relu(b - a)": "max maximum amax fmax",
    "is piecewise linear but not read yet; write it as a - relu(a - b)": "min minimum amin fmin",
    "is piecewise linear but not read yet; write it as low + relu(x - low) - relu(x - high)": """
        clamp clip clampmin clampmax hardtanh relu6 hardsigmoid threshold
        """,
    "is piecewise linear but not read yet; write it with max(a, b) = a + relu(b - a), or use average pooling": """
        maxpool1d maxpool2d maxpool3d adaptivemaxpool1d adaptivemaxpool2d adaptivemaxpool3d
        """,
    "is not piecewise linear; if it ends the model, transform the model without it (its logits), else put a "
    "ReLU in its place and train again": """
        sigmoid logsigmoid tanh softmax softmax2d logsoftmax softmin exp log sin cos sqrt square pow gelu silu mish
        swish elu selu celu softplus softsign tanhshrink hardswish erf norm normalize reciprocal logsumexp glu
        multiheadattention scaleddotproductattention
        """,
    "divides by a statistic of its input, which is not affine; use BatchNorm in eval mode": """
        layernorm groupnorm instancenorm instancenorm1d instancenorm2d instancenorm3d localresponsenorm rmsnorm
        """,
    "turns a value that depends on the input into a Python number; keep it a tensor": "item tolist numpy bool int",
    "compares values that depend on the input, which is not continuous; express the choice with relu": """
        gt ge lt le eq ne greater less greaterequal lessequal sign heaviside step argmax argmin sort topk
        """,
}
_WAY_OUT = {name: text for text, names in _WAYS_OUT.items() for name in names.split()}


def way_out(operation: str) -> str:
    """What to do about an operation (a class of modules or a function) that is not on the list."""
    key = operation.lower().replace("_", "").lstrip(".")
    return _WAY_OUT.get(key, "is not on the list of affine operations; replace it by supported operations and relu")
