"""Trace a module of one input with torch.fx, and explain failures."""

from __future__ import annotations

import inspect
import operator
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from traceback import walk_stack, walk_tb
from types import FrameType
from typing import Any, TypeVar

import jaxtyping
import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter, Node, Proxy, Tracer
from torch.fx.proxy import TraceError
from torch.fx.traceback import get_current_meta, preserve_node_meta

from torch_shallow.errors import TransformError, UnsupportedOperation
from torch_shallow.program.graph.accounting import account
from torch_shallow.program.graph.identify import identify
from torch_shallow.program.precision import InFloat64

T = TypeVar("T")
PLACE = "torch_shallow_place"
"""Key in `node.meta`: the line of the user's code that created the node, as `" at file:line"`, or empty."""

_PACKAGE = Path(__file__).parents[2]
_NOT_USER_CODE = (str(Path(torch.__file__).parent), str(Path(jaxtyping.__file__).parent), str(_PACKAGE), "<")
_RECORDED_LINE = re.compile(r'File "([^"]+)", line (\d+)')


class CannotTrace(TransformError):
    """Raised if torch.fx cannot trace the code of a model."""


def symbolic_trace(root: nn.Module, in_shape: tuple[int, ...] | None) -> Graph:
    """Trace the graph of a module, with all its arguments but the first at their defaults.

    Args:
        root: a copy of the user's model; constants created by its code are attached to it.
        in_shape: shape of one input, if known; control flow may then depend on the input's shape.

    Raises:
        CannotTrace: torch.fx cannot trace the code of the module.
        TransformError: the module has no forward pass from one tensor to one tensor.
        UnsupportedOperation: its code draws random numbers.
    """
    random_state = torch.get_rng_state()
    try:
        with torch.no_grad(), _len_of_proxies(root):
            graph = _OneInputTracer(in_shape).trace(root)
    except TransformError:
        raise
    except TraceError as error:
        raise CannotTrace(
            f"model: its control flow depends on the input{_place(error)}. torch.fx traces the code once, without "
            "numbers, so an if, a loop or an assert cannot use the values of a tensor; express the choice with relu, "
            "or make it in the constructor. If it depends only on the shape, pass example_input. torch.fx says: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
    except Exception as error:
        said = shorten(" ".join(str(error).split()), 300, placeholder="...")
        raise CannotTrace(
            f"model: torch.fx cannot trace it{_place(error)}: {type(error).__name__}: {said}. Its code may use only "
            "tensor operations on the input, whose values are unknown during tracing (and x.new_zeros(...) rather than "
            "torch.zeros(...) for a tensor with the same number of rows)."
        ) from error
    finally:
        drew = not torch.equal(random_state, torch.get_rng_state())
        torch.set_rng_state(random_state)
    if drew:
        raise UnsupportedOperation(
            "model: its forward() draws random numbers, so it is not a function of its input; call model.eval() if it "
            "is in train mode, or draw them once and keep them in a buffer."
        )
    return graph


@contextmanager
def _len_of_proxies(root: nn.Module) -> Iterator[None]:
    """Let `len(x)` in the code of a module's parts mean `x.size(0)`, since Python's own requires a number."""
    forwards = (getattr(type(module).forward, "__globals__", None) for module in root.modules())
    names = [found for found in forwards if found is not None and "len" not in found]
    for found in names:
        found["len"] = _len
    try:
        yield
    finally:
        for found in names:
            found.pop("len", None)


def _len(obj: Any) -> Any:
    if isinstance(obj, _WritableProxy):
        return obj.tracer.known(obj, len, lambda _: obj.size(0), of_values=False)
    return len(obj)


class _OneInputTracer(Tracer):
    """Trace `root(x)`, following control flow that depends only on the shape of one input."""

    def __init__(self, in_shape: tuple[int, ...] | None) -> None:
        super().__init__(param_shapes_constant=True)
        self.in_shape = in_shape
        self._evaluating = False

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],
        is_module: bool,
        concrete_args: dict[str, Any] | tuple[Any, ...] | None = None,
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Return the bound forward method and a placeholder for its first argument."""
        name = _first_argument(self.root)
        forward = self._follow if isinstance(self.root, GraphModule) else self.root.forward
        return forward, [self.create_proxy("placeholder", name, (), {})]

    def _follow(self, x: Any) -> Any:
        """Return the output of a graph whose nodes keep the names of modules and the lines of code that they know."""
        with preserve_node_meta():
            return Interpreter(self.root).run(x)

    def create_node(self, *args: Any, **kwargs: Any) -> Node:
        """Create a node that knows the line of the user's code from which it comes."""
        node = super().create_node(*args, **kwargs)
        node.meta[PLACE] = _recorded_line() or _user_line(walk_stack(sys._getframe(1)))
        _check_input_is_tensor(node)
        return node

    def proxy(self, node: Node) -> Proxy:
        """Return a value that records what is written into it."""
        return _WritableProxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether to treat a module according to its class: not if it has its own forward pass."""
        return super().is_leaf_module(m, module_qualified_name) and "forward" not in vars(m)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Create a node for the call of a module, except while an example is evaluated."""
        return forward(*args, **kwargs) if self._evaluating else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return a value that stands for a parameter, except while an example is evaluated."""
        return attr_val if self._evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: Any) -> bool:
        """Return the truth of a value that depends only on the shape of the input."""
        return self.known(obj, bool, super().to_bool)

    def iter(self, obj: Any) -> Iterator[Any]:
        """Iterate over a list or tensor whose length depends only on the shape of the input."""
        if obj.node.op == "placeholder":
            raise TransformError(
                f"model: its forward() loops over the rows of the batch {obj.node.name!r}"
                f"{_user_line(walk_stack(sys._getframe(1)))}, whose number is not known; let the layers take the whole "
                "batch at once, as nn.Linear does, and write x[:, 0] for a column."
            )
        length = self.known(obj, len, lambda _: None, of_values=False)
        return super().iter(obj) if length is None else iter([obj[i] for i in range(length)])

    def known(self, obj: Any, read: Callable[[Any], T], otherwise: Callable[[Any], T], of_values: bool = True) -> T:
        """Return what `read` gives for a value, if it is the same for any values and number of inputs.

        Args:
            obj: the proxy that stands for the value.
            read: function that reads the value.
            otherwise: function called with `obj` if the result is not known.
            of_values: whether the result may change with the entries of a tensor, and not only with its shape.
        """
        if of_values and obj.node in account(self.root, self.graph).dependent:
            return otherwise(obj)
        self._evaluating = True
        try:
            shape = self.in_shape or shape_of_first_linear(self.root, self.graph)
            with InFloat64():
                first, second = (
                    read(value_of(self.root, self.graph, obj.node, torch.zeros(n, *shape))) for n in (2, 3)
                )
        except Exception:  # its cause is reported where the node is classified or the shape is needed
            return otherwise(obj)
        finally:
            self._evaluating = False
        return first if first == second else otherwise(obj)


class _WritableProxy(Proxy):
    """Record `x += y` and `x[i] = y` as writes: torch.fx treats the first as `x = x + y`, and cannot trace the second.

    Sizes that do not depend on the number of inputs can be used as numbers.
    """

    tracer: _OneInputTracer

    def __index__(self) -> int:
        return self.tracer.known(self, operator.index, _refuse_number)

    def __len__(self) -> int:
        return self.tracer.known(self, len, _refuse_number, of_values=False)

    def _write(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, *args), {})

    def __iadd__(self, other: Any) -> Any:
        return self._write(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._write(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._write(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._write(operator.itruediv, other)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._write(operator.setitem, index, value)


def _check_input_is_tensor(node: Node) -> None:
    """Check that the input is not used as a dict, or as an object with its own fields."""
    value, *others = node.args or (None,)
    if not isinstance(value, Node) or value.op != "placeholder":
        return
    if node.op == "call_method" and (not hasattr(Tensor, str(node.target)) or node.target == "values"):
        use = f"{value}.{node.target}({', '.join(map(repr, others))})"
    elif node.target is operator.getitem and isinstance(others[0], str):
        use = f"{value}[{others[0]!r}]"
    elif node.target is getattr and not hasattr(Tensor, str(others[0])):
        use = f"{value}.{others[0]}"
    else:
        return
    raise TransformError(
        f"model: expected a forward() of one tensor, found that it uses {use}{node.meta[PLACE]}, which a tensor does "
        f"not have; pass an nn.Module whose forward(x) takes one tensor x, builds {str(value)!r} from it and calls the "
        "model."
    )


def _refuse_number(obj: Any) -> int:
    raise TraceError(f"the code needs {obj.node} as a number, which depends on the input or on the number of inputs")


def value_of(root: nn.Module, graph: Graph, node: Node, x: Tensor) -> Any:
    """Return the value of a node of an unfinished graph for the input `x`."""
    interpreter = Interpreter(root, garbage_collect_values=False, graph=graph)
    needed = {node}
    for earlier in reversed(graph.nodes):
        if earlier in needed:
            needed.update(earlier.all_input_nodes)
    for earlier in graph.nodes:
        if earlier in needed:
            interpreter.env[earlier] = x if earlier.op == "placeholder" else interpreter.run_node(earlier)
    return interpreter.env[node]


_KEEP_ENTRIES = frozenset(
    {
        *("Identity", "Flatten", "ReLU", "Dropout", "Dropout1d", "AlphaDropout", "relu", "dropout"),
        *("flatten", "view", "reshape", "contiguous", "clone", "to", "float", "double"),
    }
)


def shape_of_first_linear(root: nn.Module, graph: Graph) -> tuple[int, ...]:
    """Return the shape of one input of a model that begins with an `nn.Linear`, or with layers that keep all entries.

    Raises:
        TransformError: the model does not begin in this way.
    """
    same_entries: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder":
            same_entries.add(node)
        elif node.args and node.args[0] in same_entries and node.op.startswith("call_"):
            features = _in_features(root, node)
            if features is not None:
                return (features,)
            if identify(root, node).name in _KEEP_ENTRIES:
                same_entries.add(node)
    raise TransformError(
        "example_input: needed, because the model does not begin with an nn.Linear that determines the shape of its "
        "input; pass a batch of inputs, such as torch.zeros(1, ...)."
    )


def _in_features(root: nn.Module, node: Node) -> int | None:
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return module.in_features if isinstance(module, nn.Linear) else None
    weight = node.args[1] if node.target is torch.nn.functional.linear and len(node.args) > 1 else None
    if isinstance(weight, Node) and weight.op == "get_attr":
        value = operator.attrgetter(str(weight.target))(root)
        return value.shape[1] if isinstance(value, Tensor) else None
    return None


def _first_argument(root: nn.Module) -> str:
    parameters = list(inspect.signature(root.forward).parameters.values())
    positional = [p for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters[1:] if p.default is p.empty and p.kind not in variadic]
    if not positional:
        raise TransformError(
            "model: expected a forward() with one tensor as its first argument, found one without arguments; add it."
        )
    if needed:
        raise TransformError(
            f"model: expected a forward() of one tensor, found that it also needs {', '.join(needed)}; hold them "
            f"constant: torch_shallow.hold(model, {', '.join(f'{name}=...' for name in needed)})."
        )
    return positional[0].name


def _user_line(frames: Iterable[tuple[FrameType, int]]) -> str:
    """Return the line nearest to the tensor operation, innermost frame first, that is neither torch's nor ours."""
    for frame, line in frames:
        if frame.f_code.co_name == symbolic_trace.__name__ and frame.f_code.co_filename == __file__:
            break
        if not frame.f_code.co_filename.startswith(_NOT_USER_CODE):
            return f" at {frame.f_code.co_filename}:{line}"
    return ""


def _recorded_line() -> str:
    """Return the same line as recorded by `torch.export` for the node of a graph that is being copied."""
    places = _RECORDED_LINE.findall(get_current_meta().get("stack_trace") or "")
    return next(
        (f" at {f}:{line}" for f, line in reversed(places) if not f.startswith((*_NOT_USER_CODE, "torch/"))), ""
    )


def _place(error: BaseException) -> str:
    return _user_line(reversed(list(walk_tb(error.__traceback__))))
