"""ONNX graphs as other tools than torch write them: what they may look like, and what to do where they are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from torch_shallow import TransformError, UnsupportedOperation, from_onnx, hold, transform
from torch_shallow.program.model import read_model

from .conftest import Reads

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32) / 2


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    name = f"the_{kind}" if outputs == "y" else f"{kind}_{outputs.split()[0]}"  # no two have the same
    return helper.make_node(kind, inputs.split(), outputs.split(), name=name, **attributes)


def model(
    nodes: list[Any],
    shape: tuple[int | str, ...],
    constants: dict[str, np.ndarray] | None = None,
    *,
    outputs: str = "y",
    others: dict[str, tuple[int | str, ...]] | None = None,
    opset: int = 17,
) -> Any:
    """A model of one input `x`, or of others too."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, size)
            for name, size in {"x": shape, **(others or {})}.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split()],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def equal_to_the_runtime(proto: Any, module: torch.nn.Module, *inputs: np.ndarray, output: str = "y") -> None:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    names = [value.name for value in session.get_inputs()]
    (expected,) = session.run([output], dict(zip(names, inputs, strict=True)))
    with torch.no_grad():
        found = module(*(torch.from_numpy(x) for x in inputs)).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_constant_may_be_used_twice(reads: Reads) -> None:
    layers = [node("Gemm", "x W b", "a", transB=1), node("Relu", "a", "r"), node("Gemm", "r W b", transB=1)]
    proto = model(layers, ("n", 3), {"W": floats(3, 3), "b": floats(3)})
    module = from_onnx(proto)
    equal_to_the_runtime(proto, module, floats(5, 3))
    assert dict(module.named_parameters()).keys() == {"W", "b"}
    reads(module)


def test_constants_of_weights_are_parameters_and_others_are_buffers() -> None:
    layers = [node("Mul", "x c", "s"), node("MatMul", "s W", "m"), node("Add", "m b", "h"), node("Add", "h d")]
    proto = model(layers, ("n", 3), {"W": floats(3, 2), "b": floats(2), "c": floats(3), "d": floats(2)})
    module = from_onnx(proto)
    assert dict(module.named_parameters()).keys() == {"W", "b"}
    assert dict(module.named_buffers()).keys() == {"c", "d"}


@pytest.mark.parametrize("head", ["Sigmoid", "Tanh", "Exp"])
def test_a_head_may_have_constants(head: str) -> None:
    """As of the binary classifier of scikit-learn, or of an action that is scaled to its bounds."""
    layers = [
        *(node("Relu", "x", "r"), node("MatMul", "r W", "z"), node(head, "z", "p"), node("Sub", "one p", "q")),
        *(node("Concat", "q p", "c", axis=1), node("Mul", "c s")),
    ]
    proto = model(layers, ("n", 3), {"W": floats(3, 1), "one": np.float32([1]), "s": floats(2)})
    module, x = from_onnx(proto), floats(5, 3)
    equal_to_the_runtime(proto, module, x)
    shallow = transform(module, torch.from_numpy(x))
    with torch.no_grad():
        torch.testing.assert_close(shallow(torch.from_numpy(x)), module(torch.from_numpy(x)))


def test_weights_after_a_sigmoid_are_still_a_layer() -> None:
    layers = [node("MatMul", "x W", "h"), node("Sigmoid", "h", "p"), node("MatMul", "p V")]
    with pytest.raises(UnsupportedOperation, match="sigmoid is not piecewise linear"):
        read_model(from_onnx(model(layers, ("n", 3), {"W": floats(3, 4), "V": floats(4, 2)})))


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
def test_a_convolutional_network_of_keras(opset: int, reads: Reads) -> None:
    """Channels last, "same" paddings, which differ before and after, and dimensions that are left out."""
    old = {"axes": [2, 3]} if opset < 13 else {}
    layers = [
        node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t w1 b1", "c1", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("BatchNormalization", "c1 s d m v", "bn", epsilon=1e-3),
        node("Relu", "bn", "r1"),
        node("MaxPool", "r1", "p1", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
        node("Conv", "p1 w2", "c2", pads=[0, 0, 1, 1]),
        node("Clip", "c2", "r2", min=0.0, max=6.0) if opset < 11 else node("Clip", "c2 lo hi", "r2"),
        node("AveragePool", "r2", "p2", kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
        node("GlobalAveragePool", "p2", "g"),
        node("Squeeze", "g" if opset < 13 else "g ax", "q", **old),
        *(node("MatMul", "q w3", "z"), node("Add", "z b3", "o"), node("Softmax", "o", axis=1)),
    ]
    used = {name for layer in layers for name in layer.input}
    constants = {
        "w1": floats(3, 1, 3, 3),
        "b1": floats(3),
        "s": floats(3),
        "d": floats(3),
        "m": floats(3),
        "v": np.abs(floats(3)),
        "w2": floats(2, 3, 2, 2),
        "w3": floats(2, 3),
        "b3": floats(3),
        "ax": ints(2, 3),
        "lo": np.float32(0),
        "hi": np.float32(6),
    }
    constants = {name: value for name, value in constants.items() if name in used}
    proto = model(layers, ("n", 9, 9, 1), constants, opset=opset)
    module = from_onnx(proto)
    equal_to_the_runtime(proto, module, floats(4, 9, 9, 1))
    program = read_model(module)
    with torch.no_grad():
        logits = from_onnx(proto, output="o")(torch.from_numpy(x := floats(4, 9, 9, 1)))
    np.testing.assert_allclose(program(x.reshape(4, -1).astype(float)), logits.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "more", [{"auto_pad": "SAME_UPPER"}, {"pads": [0, 0, 1, 1]}, {"output_shape": [8, 8], "auto_pad": "SAME_LOWER"}]
)
def test_a_transposed_convolution_of_keras(more: dict[str, Any], reads: Reads) -> None:
    layers = [node("Relu", "x", "r"), node("ConvTranspose", "r w b", strides=[2, 2], **more)]
    proto = model(layers, ("n", 2, 4, 4), {"w": floats(2, 1, 3, 3), "b": floats(1)})
    module = from_onnx(proto)
    equal_to_the_runtime(proto, module, floats(3, 2, 4, 4))
    reads(module)


@pytest.mark.parametrize(
    "layer",
    [
        node("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 1], auto_pad="SAME_LOWER"),
        node("AveragePool", "x", kernel_shape=[5, 3], strides=[3, 2], auto_pad="SAME_LOWER"),
        node("LRN", "x", size=3, alpha=1.0),
    ],
    ids=lambda layer: layer.op_type,
)
def test_operators_that_the_reference_implementation_gets_wrong(layer: Any) -> None:
    proto = model([layer], ("n", 3, 7, 6))
    equal_to_the_runtime(proto, from_onnx(proto), floats(3, 3, 7, 6))


def test_a_pipeline_of_scikit_learn() -> None:
    """The operators of StandardScaler and MLPClassifier as skl2onnx writes them, with their two outputs."""
    scaler = helper.make_node(
        "Scaler", ["x"], ["s"], "the_Scaler", domain="ai.onnx.ml", offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 1.0]
    )
    classes = helper.make_node("ArrayFeatureExtractor", ["k", "a"], ["f"], domain="ai.onnx.ml")
    layers = [
        *(
            scaler,
            node("MatMul", "s W", "m"),
            node("Add", "m b", "h"),
            node("Relu", "h", "r"),
            node("MatMul", "r V", "o"),
        ),
        *(node("Softmax", "o", "p", axis=1), node("ArgMax", "p", "a", axis=1), classes),
        *(node("Reshape", "f n", "l"), node("Cast", "l", "label", to=TensorProto.FLOAT), node("Identity", "p")),
    ]
    constants = {"W": floats(3, 4), "b": floats(1, 4), "V": floats(4, 3), "k": ints(3, 5, 7), "n": ints(-1)}
    proto = model(layers, ("n", 3), constants, outputs="label y")
    with pytest.raises(TransformError, match="output: expected the name of one of the outputs, which are label, y"):
        from_onnx(proto)
    for output in ("y", "label"):
        module = from_onnx(proto, output=output)
        equal_to_the_runtime(proto, module, floats(5, 3), output=output)
        assert read_model(module, torch.zeros(1, 3)).num_neurons == 4
    assert from_onnx(proto, output="o")(torch.zeros(2, 3)).shape == (2, 3)
    with pytest.raises(
        TransformError, match=r"found 'probability'; its outputs are label, y, and its operators compute"
    ):
        from_onnx(proto, output="probability")


def linear_classifier(post_transform: str, rows: int = 3, classes: int = 3, **labels: Any) -> Any:
    """What skl2onnx writes of SimpleImputer, StandardScaler and LogisticRegression, without ZipMap."""

    def learnt(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
        name = f"the_{kind}"
        return helper.make_node(kind, [inputs], outputs.split(), name, domain="ai.onnx.ml", **attributes)

    layers = [
        learnt("Imputer", "x", "c", imputed_value_floats=[1.0] * 3, replaced_value_float=float("nan")),
        learnt("Scaler", "c", "s", offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 1.0]),
        learnt(
            *("LinearClassifier", "s", "l p"),
            coefficients=floats(rows * 3).tolist(),
            intercepts=floats(rows).tolist(),
            post_transform=post_transform,
            **(labels or {"classlabels_ints": [3, 5, 7][:classes]}),
        ),
        learnt("Normalizer", "p", "y", norm="L1"),
    ]
    proto = model(layers, ("n", 3), outputs="l p y")
    kind = TensorProto.STRING if "classlabels_strings" in labels else TensorProto.INT64
    proto.graph.output[0].type.tensor_type.elem_type = kind
    return proto


@pytest.mark.parametrize("post_transform", ["NONE", "LOGISTIC", "SOFTMAX"])
def test_a_linear_classifier_of_scikit_learn(post_transform: str) -> None:
    proto, x = linear_classifier(post_transform), 20 * floats(50, 3)
    for output in ("p", "y", "l"):
        equal_to_the_runtime(proto, from_onnx(proto, output=output), x, output=output)
    shallow = transform(from_onnx(proto, output="p"))
    assert shallow.num_regions == 1
    assert (shallow.head is None) == (post_transform == "NONE")
    assert len(set(from_onnx(proto, output="l")(torch.from_numpy(x)).tolist()) & {3, 5, 7}) > 1


def test_labels_that_are_text_are_no_output_but_the_probabilities_are() -> None:
    proto = linear_classifier("SOFTMAX", classlabels_strings=["a", "b", "c"])
    equal_to_the_runtime(proto, from_onnx(proto, output="y"), floats(5, 3))
    with pytest.raises(TransformError, match=r"its output 'l' uses text \('l'\).* choose another value as output="):
        from_onnx(proto, output="l")


def test_classifiers_and_imputers_that_are_not_read() -> None:
    with pytest.raises(TransformError, match=r"has 3 coefficients for 2 classes; give coefficients for each class"):
        from_onnx(linear_classifier("LOGISTIC", rows=1, classes=2), output="y")
    with pytest.raises(TransformError, match=r"LinearClassifier \(at .*\) has the post_transform 'PROBIT'"):
        from_onnx(linear_classifier("PROBIT"), output="y")
    proto = linear_classifier("SOFTMAX")
    proto.graph.node[0].attribute[1].f = -1.0
    with pytest.raises(TransformError, match=r"treats -1 as a missing value, and jumps there; write .* as NaN"):
        from_onnx(proto, output="y")


def test_what_the_output_does_not_depend_on_is_not_read() -> None:
    layers = [node("Relu", "x", "y"), node("Det", "x", "d"), node("Neg", "d", "e")]
    assert from_onnx(model(layers, ("n", 3, 3), outputs="y e"), output="y")(-torch.ones(2, 3, 3)).sum() == 0
    with pytest.raises(UnsupportedOperation, match=r"unsupported operators: Det \(at Det_d\)"):
        from_onnx(model(layers, ("n", 3, 3), outputs="y e"), output="e")


def test_operators_may_be_in_any_order_but_not_in_a_circle() -> None:
    layers = [node("Relu", "h", "r"), node("MatMul", "r V"), node("MatMul", "x W", "h")]
    proto = model(layers, ("n", 3), {"W": floats(3, 4), "V": floats(4, 2)})
    x = floats(5, 3)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    expected = np.maximum(x @ constants["W"], 0) @ constants["V"]
    np.testing.assert_allclose(from_onnx(proto)(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(TransformError, match="depends on its own output"):
        from_onnx(model([node("Add", "x b", "a"), node("Neg", "a", "b"), node("Relu", "b")], ("n", 3)))


def test_an_opset_may_be_said_twice_but_not_two_of_them() -> None:
    proto = model([node("Relu", "x")], ("n", 3))
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 17))
    assert from_onnx(proto)(torch.ones(2, 3)).sum() == 6
    proto.opset_import.append(helper.make_opsetid("", 18))
    with pytest.raises(TransformError, match=r"expected one opset of ai\.onnx, found \[17, 18\]"):
        from_onnx(proto)


def test_several_inputs_are_held_by_name() -> None:
    layers = [node("MatMul", "x W", "a"), node("Add", "a z", "b"), node("Relu", "b")]
    proto = model(layers, ("n", 3), {"W": floats(3, 4)}, others={"z": ("n", 4)})
    module, x = from_onnx(proto), floats(5, 3)
    equal_to_the_runtime(proto, module, x, floats(5, 4))
    row = torch.ones(1, 4)
    held = hold(module, z=row)
    shallow = transform(held, torch.zeros(1, 3))
    with torch.no_grad():
        torch.testing.assert_close(shallow(torch.from_numpy(x)), module(torch.from_numpy(x), row.expand(5, -1)))
    with pytest.raises(TransformError, match=r"hold\(model, z=\.\.\.\)"):
        transform(module, torch.zeros(1, 3))


def test_a_model_in_memory_is_read_and_not_changed() -> None:
    proto = model([node("Squeeze", "x")], ("n", 3, 1), opset=11)
    before = proto.SerializeToString()
    assert from_onnx(proto)(torch.ones(1, 3, 1)).shape == (1, 3)
    assert proto.SerializeToString() == before
    with pytest.raises(TransformError, match=r"an onnx\.ModelProto, found int"):
        from_onnx(3)


def test_quantised_weights(reads: Reads) -> None:
    layers = [node("DequantizeLinear", "q s z", "w", axis=1), node("MatMul", "x w", "h"), node("Relu", "h")]
    constants = {"q": np.arange(-3, 3, dtype=np.int8).reshape(3, 2), "s": np.float32([0.1, 0.2]), "z": np.int8([1, -2])}
    module, x = from_onnx(model(layers, ("n", 3), constants)), floats(5, 3)
    weights = (constants["q"].astype(np.float32) - constants["z"]) * constants["s"]
    np.testing.assert_allclose(
        module(torch.from_numpy(x)).detach().numpy(), np.maximum(x @ weights, 0), rtol=1e-5, atol=1e-6
    )
    reads(module, torch.zeros(1, 3))


def test_a_branch_that_is_the_same_for_every_input() -> None:
    value = [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)]
    then, other = (helper.make_graph([node(kind, "x", "o")], kind, [], value) for kind in ("Relu", "Neg"))
    choice = node("If", "c", then_branch=then, else_branch=other)
    for taken in (True, False):
        proto = model([choice], ("n", 3), {"c": np.array(taken)})
        equal_to_the_runtime(proto, from_onnx(proto), floats(4, 3))
    layers = [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c"), choice]
    with pytest.raises(TransformError, match=r"If \(at the_If\) branches on a value that depends on the input"):
        from_onnx(model(layers, ("n", 3), {"zero": np.float32(0)}))


def test_sequences_of_tensors() -> None:
    layers = [
        *(node("SplitToSequence", "x two", "s", axis=1), node("SequenceAt", "s one", "a"), node("Neg", "a", "b")),
        *(node("SequenceInsert", "s b", "t"), node("ConcatFromSequence", "t", axis=1)),
    ]
    proto = model(layers, ("n", 5), {"two": np.array(2), "one": np.array(1)})
    equal_to_the_runtime(proto, from_onnx(proto), floats(3, 5))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers(direction: str, reads: Reads) -> None:
    count = 2 if direction == "bidirectional" else 1
    layers = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("RNN", "t W R B", "h", hidden_size=3, direction=direction, activations=["Relu"] * count),
        *(node("Transpose", "h", "u", perm=[2, 0, 1, 3]), node("Flatten", "u")),
    ]
    constants = {"W": floats(count, 3, 2), "R": floats(count, 3, 3), "B": floats(count, 6)}
    proto = model(layers, ("n", 4, 2), constants)
    module = from_onnx(proto)
    equal_to_the_runtime(proto, module, floats(5, 4, 2))
    reads(module)


def test_dimensions_that_are_left_out_without_being_named() -> None:
    layers = [node("GlobalMaxPool", "x", "g"), node("Squeeze", "g")]
    proto = model(layers, ("n", 3, 4, 4))
    equal_to_the_runtime(proto, from_onnx(proto), floats(5, 3, 4, 4))
    with pytest.raises(
        TransformError, match=r"Squeeze \(at the_Squeeze\) does not name the dimensions .* name its axes"
    ):
        from_onnx(model(layers, (1, 3, 4, 4)))


def test_flattening_from_the_batch_on_is_that_of_one_input() -> None:
    proto = model([node("Flatten", "x", axis=0)], (1, 3, 4))
    assert from_onnx(proto)(torch.ones(5, 3, 4)).shape == (5, 12)
    with pytest.raises(TransformError, match=r"Flatten \(at the_Flatten\) joins the batch .* use axis=1"):
        from_onnx(model([node("Flatten", "x", axis=0)], ("n", 3, 4)))


@pytest.mark.parametrize(
    ("layers", "constants", "match"),
    [
        ([node("Add", "x z")], {}, r"Add \(at the_Add\) uses 'z', which is neither"),
        ([helper.make_node("Add", ["x", ""], ["y"])], {}, r"Add \(at y\) lacks b"),
        ([node("Gather", "x x", axis=1)], {}, r"Gather \(at the_Gather\) fails .* onnx\.checker"),
        ([node("Cast", "x", to=TensorProto.STRING)], {}, "type number 8"),
        ([node("Shrink", "x", bias=0.1, lambd=0.5)], {}, "jumps, as its bias .* make both the same"),
        ([node("ScatterND", "x i u", reduction="max")], {"i": ints(0)[:, None], "u": floats(1, 4)}, "reduction 'max'"),
        ([node("TopK", "x k", "y i", axis=1)], {"k": ints(9)}, r"TopK \(at .*\) fails"),
        ([node("Concat", "x t", axis=1)], {"t": np.array([["a"]])}, "uses text .* another value as output="),
    ],
)
def test_a_refusal_names_the_operator_and_what_to_do(
    layers: list[Any], constants: dict[str, np.ndarray], match: str
) -> None:
    with pytest.raises(TransformError, match=match) as caught:
        from_onnx(model(layers, ("n", 4), constants))
    assert len(str(caught.value).splitlines()) == 1


def learnt(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """A node of the operators for scikit-learn."""
    return helper.make_node(kind, inputs.split(), outputs.split(), f"the_{kind}", domain="ai.onnx.ml", **attributes)


def test_a_classifier_of_scikit_learn_with_dicts_of_probabilities() -> None:
    """As skl2onnx writes one by default: ZipMap makes a dict of each row, and classes may be text."""
    layers = [
        learnt("Scaler", "x", "s", offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 1.0]),
        *(node("Gemm", "s W b", "h"), node("Relu", "h", "r"), node("Gemm", "r V c", "o")),
        *(node("Softmax", "o", "p", axis=1), node("ArgMax", "p", "a", axis=1)),
        learnt("ArrayFeatureExtractor", "k a", "f"),
        *(node("Reshape", "f n", "label"), learnt("ZipMap", "p", "y", classlabels_strings=["a", "b", "c"])),
    ]
    weights = {"W": floats(3, 4), "b": floats(4), "V": floats(4, 3), "c": floats(3), "n": ints(-1)}
    proto = model(layers, ("n", 3), {**weights, "k": np.array(["a", "b", "c"])}, outputs="label y")
    with pytest.raises(TransformError, match="output: expected the name of one of the outputs, which are label, y"):
        from_onnx(proto)
    with pytest.raises(
        UnsupportedOperation, match=r"ZipMap \(at the_ZipMap\)\..* the values 'p' to dicts: pass one of them"
    ):
        from_onnx(proto, output="y")
    with pytest.raises(TransformError, match=r"uses text \('k'\).* another value as output="):
        from_onnx(proto, output="label")
    of_probabilities, x = from_onnx(proto, output="p"), floats(5, 3)
    equal_to_the_runtime(model(layers[:5], ("n", 3), weights, outputs="p"), of_probabilities, x, output="p")
    assert read_model(of_probabilities).num_neurons == 4
    assert transform(of_probabilities).head is not None


@pytest.mark.parametrize("flatten", ["constant", "computed"])
def test_a_convolutional_network_of_tensorflow(flatten: str, reads: Reads) -> None:
    """A transpose before and after each convolution, as of values with channels last, and casts of sizes."""
    there, back = {"perm": [0, 3, 1, 2]}, {"perm": [0, 2, 3, 1]}
    layers = [
        *(node("Transpose", "x", "t1", **there), node("Conv", "t1 w1 b1", "c1", pads=[1, 1, 1, 1])),
        *(node("Transpose", "c1", "t2", **back), node("Relu", "t2", "r1"), node("Transpose", "r1", "t3", **there)),
        node("MaxPool", "t3", "m", kernel_shape=[2, 2], strides=[2, 2]),
        *(node("Transpose", "m", "t4", **back), node("Transpose", "t4", "t5", **there)),
        *(node("Conv", "t5 w2", "c2", auto_pad="SAME_UPPER"), node("Transpose", "c2", "t6", **back)),
        node("Relu", "t6", "r2"),
    ]
    constants = {
        "w1": floats(2, 1, 3, 3),
        "b1": floats(2),
        "w2": floats(3, 2, 2, 2),
        "d": floats(12, 4),
        "e": floats(4),
    }
    if flatten == "constant":
        layers.append(node("Reshape", "r2 to", "f"))
        constants["to"] = ints(-1, 12)
    else:
        layers += [
            *(node("Shape", "r2", "n"), node("Cast", "n", "ni", to=TensorProto.INT32)),
            *(node("Slice", "ni zero one zero", "s"), node("Squeeze", "s zero", "q")),
            *(node("Unsqueeze", "q zero", "u"), node("Cast", "u", "ul", to=TensorProto.INT64)),
            *(node("Concat", "ul rest", "to", axis=0), node("Reshape", "r2 to", "f")),
        ]
        constants |= {"zero": ints(0), "one": ints(1), "rest": ints(-1)}
    layers += [node("MatMul", "f d", "z"), node("Add", "z e", "o"), node("Softmax", "o", axis=1)]
    proto = model(layers, ("unk__1", 4, 4, 1), constants, opset=13)
    equal_to_the_runtime(proto, from_onnx(proto), floats(3, 4, 4, 1))
    reads(from_onnx(proto, output="o"))


def test_casts_and_reshapes_around_layers() -> None:
    layers = [
        *(node("Cast", "x", "w", to=TensorProto.DOUBLE), node("Cast", "w", "f", to=TensorProto.FLOAT)),
        *(node("Reshape", "f to", "q"), node("Gemm", "q W b", "h"), node("LeakyRelu", "h", "r", alpha=0.2)),
        *(node("Reshape", "r again", "g"), node("Cast", "g", to=TensorProto.FLOAT)),
    ]
    constants = {"W": floats(3, 4), "b": floats(4), "to": ints(-1, 3), "again": ints(0, 2, 2)}
    proto = model(layers, ("n", 3), constants)
    module = from_onnx(proto)
    equal_to_the_runtime(proto, module, floats(5, 3))
    program, x = read_model(module), floats(5, 3)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).reshape(5, 4).numpy()
    np.testing.assert_allclose(program(x.astype(float)), expected, rtol=1e-4, atol=1e-5)


def test_an_input_of_whole_numbers_is_refused_by_its_type() -> None:
    proto = model([node("Cast", "x", to=TensorProto.FLOAT)], ("n", 3))
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(TransformError, match=r"x has type INT64; export the model with an input of type float32"):
        from_onnx(proto)
