"""A name stands for one thing: stems of files and names of classes; what may import what is for import-linter."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import torch_shallow

PACKAGE = Path(torch_shallow.__file__).parent
FILES = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]


def test_no_stem_is_used_more_than_twice() -> None:
    stems = Counter(path.stem for path in FILES)
    assert {stem: count for stem, count in stems.items() if count > 2} == {}


def test_a_public_class_has_a_name_of_its_own() -> None:
    trees = (ast.parse(path.read_text()) for path in FILES)
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert {name: count for name, count in names.items() if count > 1 and not name.startswith("_")} == {}


def test_no_module_is_named_like_a_public_function() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    functions = {name for name in torch_shallow.__all__ if callable(getattr(torch_shallow, name))}
    assert not functions & (folders | {path.stem for path in PACKAGE.glob("*.py")})
