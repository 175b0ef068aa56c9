"""What is exported computes the network, in every language: on boundaries, and not outside of the domain."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.cases import thinned
from tests.export.runners import expected_of, run_c, run_duckdb, run_onnx, run_python, run_sqlite
from tests.modules.laws import corner_points, random_points, sizes_of_terms
from tests.modules.torch_networks import NAMES, points_and_outsiders, shared
from tests.zoo import chain
from torch_shallow import Box, ShallowReLU, export, transform
from torch_shallow.explain import Features
from torch_shallow.export.sql import MOST_NESTED
from torch_shallow.export.tables import Tables
from torch_shallow.geometry.tree import FreeTree
from torch_shallow.search.affine_maps import AffineMaps

LANGUAGES = ("double", "float", "python", "sqlite", "float64", "float32", "duckdb")  # which may not be there
INSTALLED = [language for language in LANGUAGES if language != "duckdb" or find_spec("duckdb")]
ROUNDING = {"float": 1e-5, "float32": 1e-5}  # relative to the terms that are added up; else 1e-12


def columns_of(shallow: ShallowReLU) -> list[str]:
    count = int(np.prod(shallow.in_shape))
    return [f'the "{i}th" of -- all' for i in range(count)]


def outputs(
    language: str, shallow: ShallowReLU, x: Tensor, folder: Path, features: Features | None = None
) -> np.ndarray:
    """What the code of a language makes of rows, as rows."""
    columns, rows = columns_of(shallow), x.reshape(len(x), -1).numpy()
    names = Features.of(columns) if features is None else Features(tuple(columns), features.mean, features.scale)
    if language in ("double", "float"):
        code = export.to_c(shallow, dtype=language, features=names)
        y, status = run_c(code, folder, rows, (language, language), int(np.prod(shallow.out_shape)))
        assert np.array_equal(status == 1, np.isnan(y).any(axis=1))
        return y.astype(np.float64)
    if language == "python":
        return run_python(export.to_python(shallow, features=names), rows)
    if language in ("float64", "float32"):
        model = export.to_onnx(shallow, dtype=language, features=names)
        y = run_onnx(model, x.numpy().astype(language))
        assert y.shape == (len(x), *shallow.out_shape)
        assert y.dtype == language
        return y.reshape(len(x), -1).astype(np.float64)
    query = export.to_sql(shallow, "points", features=names, keep=["id"])
    return (run_sqlite if language == "sqlite" else run_duckdb)(query, rows, columns)


def looked_at(name: str, count: int) -> Tensor:
    """Points of all scales, interior points, vertices and points of facets, and outsiders."""
    shallow = shared(name)
    parts = [random_points(shallow, count), points_and_outsiders(name)]
    if shallow.partition.program.num_inputs <= 3:
        parts.append(corner_points(shallow, 20))
    return torch.cat(parts)


def assert_same(language: str, found: np.ndarray, shallow: ShallowReLU, x: Tensor, sizes: np.ndarray) -> None:
    expected = expected_of(shallow, x)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    known = ~np.isnan(expected).any(axis=1)
    assert known.any()
    difference = np.abs(found - expected)[known].max(axis=1) / (1.0 + sizes[known])
    assert difference.max() <= ROUNDING.get(language, 1e-12)


FAST = [("descent in a box", language) for language in LANGUAGES]
FAST += [("projected", "double"), ("skip", "sqlite"), ("descent in a polytope", "python"), ("head", "double")]
SLOW = [one for one in product(NAMES, LANGUAGES) if one not in FAST]


@pytest.mark.parametrize(("name", "language"), [*FAST, *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW)])
def test_the_network_in_every_form(name: str, language: str, tmp_path: Path) -> None:
    x = looked_at(name, 300)
    if language in ROUNDING and name not in ("head", "descent in a box"):
        x = x[x.flatten(1).abs().amax(1).nan_to_num(0.0) < 1e5]
    found = outputs(language, shared(name), x, tmp_path)
    assert_same(
        language, found, shared(name), x, sizes_of_terms(shared(name), x.nan_to_num(0.0, 0.0, 0.0)).amax(1).numpy()
    )


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_hundred_thousand_points(language: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shallow = transform(chain(4, 32, 32, 1).double(), domain=Box(-0.1, 0.1))
    assert shallow.num_regions > 50
    x = torch.cat([0.2 * torch.rand(100_000, 4, dtype=torch.float64) - 0.1, corner_points(shallow, 20)])
    found = outputs(language, shallow, x, tmp_path)
    assert_same(language, found, shallow, x, np.ones(len(x)))


class Ends(nn.Module):
    """A network that ends with a head."""

    def __init__(self, head: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.head = chain(2, 8, 3), head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda y: torch.sigmoid(50.0 * y),
    "probability": lambda y: torch.sigmoid(y)[:, 1:2],
    "tanh": lambda y: 1.0 - 2.0 * torch.tanh(y) / 3.0,
    "exp": lambda y: torch.exp(y).flip(1),
    "softmax": lambda y: torch.softmax(300.0 * y, 1),
    "log_softmax": lambda y: torch.log_softmax(y, -1)[:, None, :],
}


def with_head(name: str) -> ShallowReLU:
    torch.manual_seed(3)
    head = HEADS.get(name, lambda y: y.argmax(1))
    return transform(Ends(head).double(), torch.zeros(1, 2, dtype=torch.float64), domain=Box(-3.0, 3.0))


@pytest.mark.parametrize("name", thinned(HEADS, "sigmoid", "softmax"))
def test_heads(name: str, tmp_path: Path) -> None:
    shallow = with_head(name)
    x = 7.0 * torch.rand(300, 2, dtype=torch.float64) - 3.5
    for language in INSTALLED:
        if (name, language) != ("log_softmax", "python"):
            (folder := tmp_path / language).mkdir()
            assert_same(language, outputs(language, shallow, x, folder), shallow, x, np.full(len(x), 50.0))


def test_classes(tmp_path: Path) -> None:
    shallow = with_head("argmax")
    x = 6.0 * torch.rand(300, 2, dtype=torch.float64) - 3.0
    expected, rows, out = shallow(x).numpy(), x.numpy(), np.array([[9.0, 9.0]])
    assert len(np.unique(expected)) > 1
    y, status = run_c(export.to_c(shallow), tmp_path, np.concatenate([rows, out]), ("double", "int"), 1)
    assert np.array_equal(y[:-1, 0], expected)
    assert (y[-1, 0], status[-1], status[:-1].any()) == (-1, 1, False)
    text = export.to_python(shallow)
    assert np.array_equal(run_python(text, rows), expected)
    with pytest.raises(ValueError, match="expected a point of the domain"):
        run_python(text, out)
    found = run_onnx(export.to_onnx(shallow), np.concatenate([rows, out]))
    assert np.array_equal(found, [*expected, -1])
    query = export.to_sql(shallow, "points", keep=["id"])
    for run in (run_sqlite, run_duckdb)[: 1 + ("duckdb" in INSTALLED)]:
        found = run(query, np.concatenate([rows, out]), ["x0", "x1"])[:, 0]
        assert np.array_equal(found[:-1], expected)
        assert np.isnan(found[-1])


@pytest.mark.parametrize("name", ["descent in a box", "descent in a polytope", "projected", "skip"])
def test_unscaled_features(name: str, tmp_path: Path) -> None:
    shallow = shared(name)
    count, rng = int(np.prod(shallow.in_shape)), np.random.default_rng(0)
    scale = rng.uniform(0.5, 2.0, count) * rng.choice([-1.0, 1.0], count)
    features = Features.of(columns_of(shallow), mean=rng.normal(size=count), scale=scale)
    x = 0.999 * random_points(shallow, 200)
    x = x[x.abs().amax(1) < 10.0]
    for language in INSTALLED:
        (folder := tmp_path / language).mkdir()
        found = outputs(language, shallow, torch.from_numpy(features.unscale(x.numpy())), folder, features)
        assert_same(language, found, shallow, x, sizes_of_terms(shallow, x).amax(1).numpy())


def test_merged_networks_and_those_without_stored_maps(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    for parameter in model[4].parameters():
        parameter.data[:, ...] = parameter.data.relu()
    whole = transform(model)
    x = torch.cat([random_points(whole, 300), corner_points(whole, 20)])
    for number, shallow in enumerate((whole.merge(), transform(model, store_maps=False))):
        for language in ("double", "sqlite", "float64"):
            (folder := tmp_path / f"{language}{number}").mkdir()
            found = outputs(language, shallow, x, folder)
            assert_same(language, found, shallow, x, sizes_of_terms(whole, x).amax(1).numpy())


def test_one_region(tmp_path: Path) -> None:
    x = torch.randn(20, 3, dtype=torch.float64)
    for model in (nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 2), nn.Softmax(1))):
        shallow = transform(model.double())
        for language in INSTALLED:
            (folder := tmp_path / f"{language}{len(list(tmp_path.iterdir()))}").mkdir()
            assert_same(language, outputs(language, shallow, x, folder), shallow, x, np.full(20, 10.0))


def staircase(steps: int) -> ShallowReLU:
    """A number for each interval between thresholds of one feature, as a tree that is a chain: it jumps at each."""
    tree = transform(nn.Linear(1, 1), domain=Box(0.0, float(steps))).partition
    children = np.array([[~k, k + 1] for k in range(steps - 1)])
    children[-1, 1] = ~(steps - 1)
    rows = np.array([[1.0 if k % 2 else 4.0, -(k + 1.0) * (1.0 if k % 2 else 4.0)] for k in range(steps - 1)])
    free = FreeTree(
        in_shape=(1,),
        out_shape=(1,),
        domain=tree.domain,
        chart=tree.chart,
        children=children,
        points=np.arange(steps)[:, None] + 0.5,
    )
    values = np.random.default_rng(0).normal(size=(steps, 1))
    return ShallowReLU(free, AffineMaps(None, rows, np.zeros((steps, 1, 1)), values, None))


def test_ties_are_those_of_the_network_where_it_jumps(tmp_path: Path) -> None:
    shallow = staircase(100)
    near = torch.arange(101, dtype=torch.float64)
    x = torch.cat([near, near.nextafter(near + 1), near.nextafter(near - 1)])[:, None]
    x = x[(x[:, 0] >= 0.0) & (x[:, 0] <= 100.0)]
    for language in set(INSTALLED) - set(ROUNDING):
        (folder := tmp_path / language).mkdir()
        assert np.array_equal(outputs(language, shallow, x, folder), expected_of(shallow, x))


def test_case_is_nested_by_the_logarithm_of_the_regions_and_reads_as_thresholds() -> None:
    query = export.to_sql(staircase(300), "points", features=["bmi"])
    assert query.count('WHEN "bmi" <= 7e0'.replace("7e0", "7.0e0")) == 1
    deepest = depth = 0
    for word in query.replace("(", " ").split():
        depth += (word == "CASE") - (word == "END")
        deepest = max(deepest, depth)
    assert deepest == 2 <= MOST_NESTED


def test_every_half_space_and_local_model_is_there_once() -> None:
    shallow = shared("descent")
    tables = Tables.of(shallow)
    assert len(np.unique(tables.rows, axis=0)) == len(tables.rows) < shallow.num_cuts
    assert np.array_equal(tables.rows, shallow.half_spaces.rows.numpy())
    assert np.array_equal(tables.cuts[:, 0], shallow.function.half_space_of().numpy())
    children, models = shallow.partition.children, tables.models
    weights, biases = shallow.function.selection.maps(torch.arange(shallow.num_regions))
    leaves = children < 0
    assert np.array_equal(models[~tables.cuts[:, 1:][leaves]][..., :-1], weights.numpy()[~children[leaves]])
    assert np.array_equal(models[~tables.cuts[:, 1:][leaves]][..., -1], biases.numpy()[~children[leaves]])
    assert np.array_equal(tables.cuts[:, 1:][~leaves], children[~leaves])
