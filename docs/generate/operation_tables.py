"""The page of supported operations, from the lists that the package itself goes by."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from torch_shallow.estimators import predictors, preprocessing
from torch_shallow.program.graph import operations
from torch_shallow.program.onnx.graph_reader import OPERATORS

INTRODUCTION = """\
# Supported operations

These tables are made from the lists that the package goes by when it reads a model, so they are complete. What
counts is the operation, not how it is written: `torch.add`, `Tensor.add`, `+`, `+=` and `add_` are one. An operation
that is on none of the lists is refused with an error that names it, says where it is in the model and, where there is
one, what to put in its place; nothing is ever approximated or left out.

Modules of your own need no support: they are traced, and only the operations that they do are looked at.
"""
HEADS = """\
## Heads: what may end a model

These are not piecewise linear. At the end of a model they are kept as the `head` of the shallow network, which applies
them after its trunk, so that `shallow(x)` still equals `model(x)`. In the middle of a model they are refused.
"""
REFUSED = """\
## What is refused, and the way out

| Operation | Why, and what to do |
|---|---|
"""
SKLEARN = """\
## scikit-learn

`from_sklearn` reads fitted pipelines, in any nesting, of these classes. Other estimators are refused by name.
"""
ONNX = """\
## ONNX

`from_onnx` reads these operators where they depend on the input of the graph; anything that does not is computed once
and kept as a constant.
"""


def make(folder: Path) -> None:
    """Write the page."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "operations.md").write_text(page(), encoding="utf-8")


def page() -> str:
    """The page, as Markdown."""
    piecewise = [kind.__name__ for kind in operations.PIECEWISE_MODULES]
    affine = [kind.__name__ for kind in (*operations.VIEW_MODULES, *operations.AFFINE_MODULES)]
    functions = [name for name in (*operations.RULES, *operations.ATEN_RULES) if name[0] not in "._"]
    ways = "\n".join(f"| {_listed(names.split())} | {why} |" for why, names in operations._WAYS_OUT.items())
    steps = [name for name in preprocessing.TRANSFORMERS if name[0].isupper() and name != "None"]
    parts = [
        INTRODUCTION,
        "## Modules\n\n| Kind | Modules |\n|---|---|",
        f"| Piecewise linear | {_listed(piecewise)} |",
        f"| Affine | {_listed(affine)} |",
        f"| Normalisation by running statistics | {_listed(kind.__name__ for kind in operations.RUNNING_NORMS)} |",
        f"| Dropout, which does nothing in eval mode | {_listed(kind.__name__ for kind in operations.DROPOUTS)} |",
        "\n## Functions and methods\n\n| Kind | Functions |\n|---|---|",
        f"| Piecewise linear | {_listed(name for name in operations.PIECEWISE_RULES if name[0] != '_')} |",
        f"| Affine in at least one argument | {_listed(functions)} |",
        "",
        HEADS,
        _listed(sorted(operations.HEADS)),
        "",
        REFUSED + ways,
        "",
        SKLEARN,
        "| Kind | Classes |\n|---|---|",
        f"| Steps | {_listed(steps)}, and selectors of features |",
        f"| Perceptrons | {_listed(sorted(predictors.PERCEPTRONS))} |",
        f"| Classifiers | {_listed(sorted(predictors.LINEAR_CLASSIFIERS))} |",
        f"| Regressors | {_listed(sorted(predictors.LINEAR_REGRESSORS | predictors.LOG_LINEAR_REGRESSORS))} |",
        "",
        ONNX,
        _listed(sorted(OPERATORS)),
        "",
    ]
    return "\n".join(parts)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
