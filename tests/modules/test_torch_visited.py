"""What torch can do with a network of visited regions, and what it is refused: to look into the table of patterns."""

from __future__ import annotations

import copy
import pickle
from io import BytesIO

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, jacfwd, jacrev, jvp, vmap
from torch.utils.data import DataLoader

from tests.cases import thinned
from tests.modules.test_torch_workers import InBatches
from tests.modules.torch_networks import FORMS, assert_same, model_of, points, points_and_outsiders
from torch_shallow import ShallowReLU, TransformError, transform

SOME = ("descent in a box", "image", "skip", "head")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself


def visited(name: str, rows: int = 20) -> ShallowReLU:
    return transform(model_of(name), domain=FORMS[name][2], data=points(name, rows))


@pytest.mark.parametrize("name", SOME)
def test_derivatives(name: str) -> None:
    shallow, x = visited(name), points(name, 3).requires_grad_()
    assert gradcheck(shallow, (x,), eps=1e-8, atol=1e-5)
    assert gradgradcheck(shallow, (x,), eps=1e-8, atol=1e-5)
    with torch.inference_mode():
        assert_same(shallow(x).clone(), shallow(x.detach().clone()).clone())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(shallow(x), visited(name)(x))


@pytest.mark.parametrize("name", SOME)
def test_copies_and_state(name: str) -> None:
    shallow, x, file = visited(name), points_and_outsiders(name), BytesIO()
    expected = shallow(x)
    assert not expected[:20].isnan().any()
    for copied in (copy.deepcopy(shallow), pickle.loads(pickle.dumps(shallow)), copy.deepcopy(shallow).share_memory()):
        assert_same(copied(x), expected)
    torch.save(shallow.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = visited(name)
    for buffer in other.local_models.buffers():
        buffer.zero_()
    other.load_state_dict(state)
    assert_same(other(x), expected)
    with pytest.raises(RuntimeError, match=r"size mismatch for points"):
        visited(name, 2).load_state_dict(state)


@pytest.mark.parametrize("name", SOME)
def test_as_a_child_and_in_other_precisions(name: str) -> None:
    shallow, x = visited(name), points_and_outsiders(name)
    expected = shallow(x)
    parent = nn.Sequential(shallow, nn.Flatten(-1)).half().train()
    assert not any(parameter.requires_grad for parameter in parent.parameters())
    assert_same(parent(x), expected)
    low = shallow(x.bfloat16())
    assert low.dtype == torch.bfloat16
    assert low[20:].isnan().all()
    if hasattr(shallow, "local_models"):
        twice = {
            "local_models.weights": 2.0 * shallow.local_models.weights,
            "local_models.biases": 2.0 * shallow.local_models.biases,
        }
        assert name == "head" or torch.equal(functional_call(shallow, twice, (x[:20],)), 2.0 * expected[:20])


def test_what_train_mode_would_change_stays_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 2), nn.Softmax(-1))
    model.append(nn.Dropout())
    model.double().eval()
    x = torch.randn(50, 2, dtype=torch.float64)
    for shallow in (transform(model, data=x), transform(model)):
        expected = shallow(x)
        assert_same(nn.Sequential(shallow).train()(x), expected)
        assert_same(expected, model(x))


def test_in_worker_processes() -> None:
    shallow, x = visited("head"), points_and_outsiders("head")
    loader = DataLoader(x, collate_fn=InBatches(shallow), batch_size=20, num_workers=2, multiprocessing_context="fork")
    assert_same(torch.cat(list(loader)), shallow(x))


@pytest.fixture
def _as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("_as_users_run_it")
@pytest.mark.parametrize("name", thinned(SOME, "head"))
def test_compiled_code_leaves_it_as_it_is(name: str) -> None:
    shallow, x = visited(name), points_and_outsiders(name)
    model = nn.Sequential(shallow, nn.Hardtanh())
    torch.compiler.reset()
    assert_same(torch.compile(model, backend="aot_eager")(x), model(x))
    torch.compiler.reset()
    with pytest.raises(RuntimeError, match="disable"):
        torch.compile(model, backend="aot_eager", fullgraph=True)(x)


def exported(shallow: ShallowReLU, x: Tensor) -> object:
    return torch.export.export(shallow, (x,))


@pytest.mark.usefixtures("_as_users_run_it")
@pytest.mark.parametrize(
    "use",
    [
        lambda shallow, x: vmap(shallow)(x),
        lambda shallow, x: jacrev(shallow)(x),
        lambda shallow, x: jacfwd(shallow)(x),
        lambda shallow, x: jvp(shallow, (x,), (x,)),
        exported,
        lambda shallow, x: shallow.to("meta")(x.to("meta")),
    ],
    ids=["vmap", "jacrev", "jacfwd", "jvp", "export", "meta"],
)
def test_what_needs_to_look_inside_is_refused(use: object) -> None:
    with pytest.raises(TransformError, match="x: expected a tensor with values, since a network of visited regions"):
        use(visited("head"), points("head"))


@pytest.mark.usefixtures("_as_users_run_it")
def test_torch_fx_is_refused() -> None:
    with pytest.raises(TransformError, match="x: expected a floating-point tensor, found Proxy"):
        torch.fx.symbolic_trace(visited("head"))
