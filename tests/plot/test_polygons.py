"""The polygons of a picture: they fill the window, and each is what the network says it is."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from torch import nn

import torch_shallow
from tests import zoo
from tests.cases import examples
from torch_shallow import Box, Polytope, TransformError
from torch_shallow.plot.drawn import read_subject
from torch_shallow.plot.polygons import Plane, Polygons
from torch_shallow.plot.regions import polygons

TWO_INPUTS = [specimen for specimen in zoo.ALL if torch.Size(specimen.in_shape).numel() == 2]


def inner_points(found: Polygons, polygon: int, generator: np.random.Generator) -> np.ndarray:
    """Random points inside a polygon: mixtures of its corners."""
    corners = found.outline(polygon)
    return generator.dirichlet(np.ones(len(corners)), 5) @ corners


@torch.no_grad()
def check(found: Polygons, f: object, area: float | None = None, continuous: bool = True) -> None:
    """The laws of polygons of a function that has a tree: `f` is the shallow network."""
    window = found.window
    size = float((window.upper - window.lower).prod())
    assert found.areas.sum() == pytest.approx(size if area is None else area, rel=1e-9)
    assert (found.areas > 0.0).all()
    # A plane graph without crossings or gaps: each edge has one polygon on each side, and Euler's formula holds.
    used = np.unique(found.corners)
    assert len(used) - len(found.edges) + len(found) == 1
    inner = (found.sides >= 0).all(axis=1)
    rim = found.vertices[found.edges[~inner]]
    if area is None:
        on_side = (rim == window.lower).all(axis=1) | (rim == window.upper).all(axis=1)
        assert on_side.any(axis=1).all()
    generator = np.random.default_rng(0)
    slack, deep = 1e-9 * float((window.upper - window.lower).max()), []
    for polygon in range(len(found)):
        corners = found.outline(polygon)
        sides = np.roll(corners, -1, axis=0) - corners
        following = np.roll(sides, -1, axis=0)
        turn = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
        assert (turn >= -slack * np.linalg.norm(sides, axis=1)).all()  # convex, anticlockwise
        points = inner_points(found, polygon, generator)
        from_sides = [
            (side[0] * (points - corner)[:, 1] - side[1] * (points - corner)[:, 0]) / max(np.linalg.norm(side), 1e-300)
            for side, corner in zip(sides, corners, strict=True)
            if np.linalg.norm(side) > slack
        ]
        deep.append(points[np.min(from_sides, axis=0) > slack])
    owner, points = np.repeat(np.arange(len(found)), [len(part) for part in deep]), np.concatenate(deep)
    x = torch.from_numpy(found.plane.lift(points)).reshape(-1, *f.in_shape)
    assert (f.locate(x).numpy() == found.regions[owner]).all()
    known = found.regions[owner] >= 0
    y = f.trunk(x[torch.from_numpy(known)]).reshape(int(known.sum()), found.maps.shape[1]).numpy()
    map_ = found.maps[owner[known]]
    values = (points[known][:, None] * map_[..., :2]).sum(axis=-1) + map_[..., 2]
    scale = 1.0 + np.abs(map_).max(axis=(1, 2), keepdims=True)[..., 0]
    np.testing.assert_allclose(values / scale, y / scale, rtol=1e-9, atol=1e-9)
    if continuous:  # neighbours agree on the corners that they share
        for left, right in found.sides[inner]:
            if min(found.regions[[left, right]]) < 0:
                continue
            shared = np.intersect1d(
                *(found.corners[found.starts[side] : found.starts[side + 1]] for side in (left, right))
            )
            here, there = (
                found.vertices[shared] @ found.maps[side, :, :2].T + found.maps[side, :, 2] for side in (left, right)
            )
            np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-8 * (1.0 + np.abs(found.maps[left]).max()))


@torch.no_grad()
def check_classes(found: Polygons, f: object, threshold: float | None) -> None:
    """Polygons are of one class each, and outputs tie where classes meet."""
    known = np.flatnonzero(found.known)
    x = torch.from_numpy(found.plane.lift(found.centres[known])).reshape(-1, *f.in_shape)
    y = f.trunk(x).reshape(len(x), found.maps.shape[1]).numpy()
    rivals = y if threshold is None else np.column_stack([np.zeros(len(y)), y[:, 0] - threshold])
    best = np.sort(rivals, axis=1)
    clear = best[:, -1] - best[:, -2] > 1e-9 * (1.0 + np.abs(rivals).max())
    np.testing.assert_array_equal(found.outputs[known][clear], rivals.argmax(axis=1)[clear])
    ends = found.between(found.outputs, known=True)
    if not len(ends):
        return
    for share in (0.0, 0.37, 1.0):
        place = (1.0 - share) * ends[:, 0] + share * ends[:, 1]
        y = (
            f.trunk(torch.from_numpy(found.plane.lift(place)).reshape(-1, *f.in_shape))
            .reshape(len(place), found.maps.shape[1])
            .numpy()
        )
        rivals = y if threshold is None else np.column_stack([np.zeros(len(y)), y[:, 0] - threshold])
        best = np.sort(rivals, axis=1)
        np.testing.assert_allclose(best[:, -1], best[:, -2], atol=1e-9 * (1.0 + np.abs(found.maps[known]).max()))


@pytest.mark.parametrize("specimen", TWO_INPUTS, ids=str)
def test_every_network_of_two_inputs(specimen: zoo.Specimen) -> None:
    model = specimen.model()
    shallow = torch_shallow.transform(model, specimen.example(), domain=specimen.domain)
    one = torch.Size(shallow.trunk_shape).numel() == 1
    box = isinstance(specimen.domain, Box)
    lower, upper = ([-1.0, -1.0], [1.0, 1.0]) if box else ([-2.1, -1.7], [2.3, 1.9])
    if specimen.domain == zoo.INTERVAL:
        lower, upper = [0.0, 0.0], [1.0, 1.0]
    threshold = 0.05 if one else None
    found = polygons(shallow, lower=lower, upper=upper, threshold=0.05)
    area = None
    if isinstance(specimen.domain, Polytope):
        area = float(found.areas.sum())
        assert area < float((found.window.upper - found.window.lower).prod())
    check(found, shallow, area)
    check_classes(found, shallow, threshold)


@given(st.integers(0, 10_000), st.lists(st.integers(1, 7), min_size=1, max_size=3), st.integers(1, 4))
@examples(4)
def test_random_networks(seed: int, widths: list[int], outputs: int) -> None:
    torch.manual_seed(seed)
    model = zoo.chain(2, *widths, outputs).double()
    shallow = torch_shallow.transform(model)
    found = polygons(shallow, lower=[-3.0, -1.0], upper=[1.0, 2.0])
    check(found, shallow)
    check_classes(found, shallow, 0.0 if outputs == 1 else None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_areas_are_those_of_the_regions(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    shallow = torch_shallow.transform(zoo.chain(2, 8, 6, 1).to(dtype), domain=Box([-1.0, -2.0], [2.0, 1.0]))
    found = polygons(shallow, by_largest=False)
    assert sorted(found.regions) == list(range(shallow.num_regions))
    for polygon, region in enumerate(found.regions):
        hull = ConvexHull(shallow.regions[int(region)].vertices().numpy())
        assert found.areas[polygon] == pytest.approx(hull.volume, rel=1e-6, abs=1e-9)


def variants() -> dict[str, torch_shallow.ShallowReLU]:
    """One function, known in many ways."""
    torch.manual_seed(0)
    model = zoo.chain(2, 6, 5, 3).double()
    shallow = torch_shallow.transform(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch_shallow.transform(model, max_regions=12)
    trained = torch_shallow.transform(model).unfreeze()
    with torch.no_grad():
        trained.selection.weights += 0.3 * torch.randn_like(trained.selection.weights)
    return {
        "merged": shallow.merge(),
        "maps on demand": torch_shallow.transform(model, store_maps=False),
        "incomplete": part,
        "trained": trained,
        "polytope": torch_shallow.transform(model, domain=Polytope([[1.0, 1.0], [-1.0, 0.5]], [0.7, 1.0])),
    }


@pytest.mark.parametrize("name", list(variants()))
def test_every_kind_of_tree(name: str) -> None:
    shallow = variants()[name]
    found = polygons(shallow, lower=-2.0, upper=2.0)
    area = None
    if name == "polytope":
        x = torch.cartesian_prod(torch.linspace(-2, 2, 400).double(), torch.linspace(-2, 2, 400).double())
        area = float(found.areas.sum())
        assert area == pytest.approx(16.0 * float(shallow.domain.contains(x).double().mean()), rel=0.02)
    check(found, shallow, area, continuous=name != "trained")
    assert (found.regions < 0).any() == (name == "incomplete")
    if name != "trained":
        check_classes(found, shallow, None)


def test_many_classes_are_one_polygon_each() -> None:
    torch.manual_seed(0)
    shallow = torch_shallow.transform(nn.Linear(2, 12).double())
    found = polygons(shallow, lower=-4.0, upper=4.0)
    check(found, shallow)
    check_classes(found, shallow, None)
    assert len(np.unique(found.outputs)) == len(found) > 3


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_scales(scale: float, shift: float) -> None:
    torch.manual_seed(0)
    model = zoo.chain(2, 6, 5, 2).double()
    plain = polygons(torch_shallow.transform(model), lower=-2.0, upper=2.0)
    moved = zoo.linear([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]).double()
    with torch.no_grad():
        moved.weight /= scale
        moved.bias -= shift
    shallow = torch_shallow.transform(nn.Sequential(moved, model))
    found = polygons(shallow, lower=(shift - 2.0) * scale, upper=(shift + 2.0) * scale)
    assert len(found) == len(plain)
    np.testing.assert_allclose(np.sort(found.areas) / scale**2, np.sort(plain.areas), rtol=1e-6, atol=1e-9)


def test_a_plane_of_a_tree_is_that_of_the_deep_network() -> None:
    torch.manual_seed(0)
    model = zoo.chain(5, 6, 5, 3).double()
    points = torch.randn(3, 5, dtype=torch.float64)
    tree, deep = torch_shallow.transform(model), torch_shallow.transform(model, data=torch.randn(4, 5).double())
    through_tree = polygons(tree, points)
    check(through_tree, tree)
    check_classes(through_tree, tree, None)
    for other in (model, deep):
        found = polygons(other, points)
        np.testing.assert_allclose(found.window.lower, through_tree.window.lower)
        assert len(found) == len(through_tree)
        np.testing.assert_allclose(np.sort(found.areas), np.sort(through_tree.areas), rtol=1e-7, atol=1e-9)
        x = torch.from_numpy(through_tree.plane.lift(found.centres))
        values = (found.centres[:, None] * found.maps[..., :2]).sum(-1) + found.maps[..., 2]
        np.testing.assert_allclose(values, model(x).detach().numpy(), atol=1e-9)


def test_a_plane_in_a_box_with_fixed_inputs() -> None:
    torch.manual_seed(0)
    model = zoo.chain(4, 6, 2).double()
    shallow = torch_shallow.transform(model, domain=Box([-1.0, 0.3, -1.0, -1.0], [1.0, 0.3, 2.0, 1.0]))
    origin = torch.tensor([0.0, 0.3, 0.0, 0.1], dtype=torch.float64)
    axes = torch.eye(4, dtype=torch.float64)
    found = polygons(shallow, origin=origin, directions=axes[[0, 2]])
    np.testing.assert_allclose([found.window.lower, found.window.upper], [[-1.0, -1.0], [1.0, 2.0]], atol=1e-12)
    check(found, shallow)
    assert len(polygons(shallow, origin=origin.float(), directions=axes[[0, 2]].float())) == len(found)
    with pytest.raises(TransformError, match="meets the domain"):
        polygons(shallow, origin=origin, directions=axes[[0, 1]], lower=-0.1, upper=0.1)
    with pytest.raises(TransformError, match="meets the domain"):
        polygons(shallow, origin=origin + 1.0, directions=axes[[0, 2]])


def test_the_domain_of_visited_regions_ends_the_picture() -> None:
    torch.manual_seed(0)
    model = zoo.chain(2, 4, 2).double()
    visited = torch_shallow.transform(model, data=torch.zeros(1, 2).double(), domain=Box(-1.0, 1.0))
    assert polygons(visited, lower=-2.0, upper=2.0).areas.sum() == pytest.approx(4.0)


def test_distances_are_kept() -> None:
    points = torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    subject = read_subject(nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU()), points)
    rows = subject.rows("points", points)
    plane = Plane.through(rows)
    places = plane.project(rows)
    np.testing.assert_allclose(plane.lift(places), rows, atol=1e-12)
    for a, b in itertools.combinations(range(3), 2):
        assert np.linalg.norm(places[a] - places[b]) == pytest.approx(float((points[a] - points[b]).norm()))


def test_refusals() -> None:
    line = nn.Sequential(nn.Linear(1, 3), nn.ReLU())
    plane = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    flat = nn.Linear(2, 3)
    for f, arguments, message in [
        (line, {}, "plot.segment"),
        (nn.Linear(3, 2), {}, "plot.slice"),
        (flat, {}, "pass lower and upper"),
        (flat, {"lower": torch.zeros(2, requires_grad=True), "upper": torch.zeros(2)}, "lower < upper"),
        (plane, {"lower": 1.0}, "lower, upper"),
        (plane, {"lower": 1.0, "upper": 1.0}, "lower < upper"),
        (plane, {"lower": [0.0, 0.0, 0.0], "upper": 1.0}, "lower, upper"),
        (plane, {"points": torch.zeros(2, 2)}, "expected 3 inputs"),
        (plane, {"points": torch.zeros(3, 2)}, "collinear"),
        (plane, {"points": torch.full((3, 2), torch.nan)}, "finite"),
        (plane, {"origin": torch.zeros(2)}, "an origin and two directions"),
        (plane, {"origin": torch.zeros(3), "directions": torch.eye(2)}, "origin"),
        (torch_shallow.transform(plane), {"points": torch.zeros(3, 5)}, "expected a tensor of shape"),
    ]:
        with pytest.raises(TransformError, match=message):
            polygons(f, **arguments)
