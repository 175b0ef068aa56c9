"""A page for each public function and class, made of its signature and its docstring.

griffe reads the source; docstrings are Markdown in Google's style. What is public is what `__all__` says, so that a new
name has a page without being written down anywhere; `GROUPS` only says under which heading it is found.
"""

from __future__ import annotations

import functools
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import griffe

import torch_shallow

PACKAGE = "torch_shallow"
MODULES = ("", "explain", "plot", "export")
GROUPS: dict[str, tuple[str, str]] = {
    "From a model to its regions": (
        "The ways in, and what to know before.",
        "transform simplify estimate count iter_regions from_sklearn from_onnx hold trace",
    ),
    "Networks and regions": (
        "What `transform` and `simplify` give back.",
        "ShallowReLU VisitedReLU SimplifiedReLU Region Certificate Estimate RegionCount",
    ),
    "Domains": ("Where a question is asked.", "Box Polytope WholeSpace"),
    "Does it hold everywhere?": (
        "Properties, proofs and counterexamples.",
        "verify Verdict AtLeast AtMost Between Linear Wins Monotone read_vnnlib VnnlibQuery",
    ),
    "The greatest, the least, the best": (
        "Answers without all regions, and networks within optimisation problems.",
        "explain.output_range explain.OutputRange ask Question Maximum constraints",
    ),
    "One input": (
        "Why this output, and how far does the reason reach?",
        "explain.explain explain.Explanation explain.rules explain.Rules explain.RuleSet explain.Features",
    ),
    "What would change the answer?": (
        "The nearest change, in L1, L2 or L-infinity, with the bound that proves it.",
        (
            "explain.counterfactual explain.Counterfactual explain.nearest_counterfactuals "
            "explain.NearestCounterfactuals explain.one_feature_changes explain.OneFeatureChanges "
            "explain.robustness_radius explain.RobustnessRadius"
        ),
    ),
    "Attributions": (
        "SHAP values and integrated gradients, exactly.",
        (
            "explain.shap_values explain.local_linear_shap explain.LocalLinearShap explain.integrated_gradients "
            "explain.segment explain.Segment explain.channels_last"
        ),
    ),
    "The whole network": (
        "What holds everywhere in a domain.",
        (
            "explain.lipschitz_constant explain.LipschitzConstant explain.monotonicity explain.Monotonicity "
            "explain.Counterexample explain.unused_features explain.UnusedFeatures explain.neuron_activity "
            "explain.NeuronActivity explain.volumes explain.Volumes explain.moments explain.Moments "
            "explain.region_table explain.adjacency"
        ),
    ),
    "Two networks": ("By how much do they differ?", "explain.difference explain.Difference explain.SameClass"),
    "Pictures": ("Exact polygons, drawn by matplotlib.", ""),
    "Other languages": ("C99, Python, SQL and ONNX.", ""),
    "Errors and warnings": (
        "What is refused, and what is not complete.",
        "TransformError UnsupportedOperation IncompleteWarning",
    ),
}
BY_MODULE = {"plot": "Pictures", "export": "Other languages"}
REST = "More"
ABOUT = """Everything public, each with a page of its own. Names are those of `import torch_shallow` and
`from torch_shallow import explain, export, plot`."""


@functools.cache
def _package() -> griffe.Module:
    root = Path(__file__).parents[2]
    return griffe.load(PACKAGE, search_paths=[str(root)], docstring_parser="google")


@functools.cache
def public() -> dict[str, griffe.Object]:
    """Every public function and class by the name under `torch_shallow`, such as `explain.rules`; each once.

    Where they are defined is asked of the package itself: by name, a module could be taken for a function of its name.
    """
    found: dict[str, griffe.Object] = {}
    for module in MODULES:
        parent = getattr(torch_shallow, module) if module else torch_shallow
        for name in parent.__all__:
            thing = getattr(parent, name)
            if not inspect.ismodule(thing):
                where = f"{thing.__module__}.{thing.__qualname__}".removeprefix(f"{PACKAGE}.")
                source = _package()[where]
                if all(source is not other for other in found.values()):
                    found[f"{module}.{name}" if module else name] = source
    return found


def documented() -> list[str]:
    """Whole names of all that has a page, and of members on them."""
    names = []
    for short, thing in public().items():
        names.append(f"{PACKAGE}.{short}")
        if thing.is_class:
            names += [f"{PACKAGE}.{short}.{member.name}" for member in _members(thing)]
    return names


def make(folder: Path) -> None:
    """Write all pages anew, with an index."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for short, thing in public().items():
        (folder / f"{short}.md").write_text(_page(short, thing), encoding="utf-8")
    (folder / "index.md").write_text(_index(), encoding="utf-8")


def grouped() -> dict[str, list[str]]:
    """The public names under each heading; those that no group names come last."""
    rest = dict.fromkeys(public())
    groups = {}
    for title, (_, names) in GROUPS.items():
        groups[title] = [name for name in names.split() if name in rest]
        groups[title] += [name for name in rest if BY_MODULE.get(name.partition(".")[0]) == title]
        for name in groups[title]:
            del rest[name]
    return {**groups, REST: list(rest)} if rest else groups


def _index() -> str:
    lines = [
        "# API",
        "",
        ABOUT,
        "",
    ]
    for title, names in grouped().items():
        about = GROUPS.get(title, ("",))[0]
        lines += [f"## {title}", "", about, "", "| | |", "|---|---|"]
        lines += [f"| [`{name}`]({name}.md) | {_first_line(public()[name])} |" for name in names]
        lines += ["", "```{toctree}", ":hidden:", f":caption: {title}", "", *names, "```", ""]
    return "\n".join(lines)


def _first_line(thing: griffe.Object) -> str:
    text = inspect.cleandoc(thing.docstring.value) if thing.docstring else ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return paragraph.replace("|", "\\|")


def _page(short: str, thing: griffe.Object) -> str:
    """The page of a function or a class."""
    module, _, name = f"{PACKAGE}.{short}".rpartition(".")
    body = _class(name, module, thing) if thing.is_class else _function(name, module, thing, "function")
    return f"# {short}\n\n```python\nfrom {module} import {name}\n```\n\n{body}\n"


def _class(name: str, module: str, thing: griffe.Class) -> str:
    made = "" if _is_result(thing) else _parameters(thing)
    parts = [_sections(thing)]
    if bases := [base for base in (str(base).rpartition(".")[2] for base in thing.bases) if base in public()]:
        parts.append(f"Base: `{bases[0]}`")
    described = _described(thing)
    for member in _members(thing):
        if member.is_function:
            parts.append(_function(member.name, module, member, "method"))
        elif member.name not in described:
            parts.append(_directive("property", member.name, module, _sections(member), [f":type: {_type(member)}"]))
    return _directive("class", f"{name}{made}", module, "\n\n".join(parts), colons=6)


def _is_result(thing: griffe.Class) -> bool:
    """Whether users only get objects of a class, and do not make them."""
    named = {section.kind.value for section in _parsed(thing)}
    return "attributes" in named and "parameters" not in named


def _described(thing: griffe.Class) -> set[str]:
    return {
        str(item.name)
        for section in _parsed(thing)
        if section.kind.value == "attributes"
        for item in section.value
        if item.name
    }


def _members(thing: griffe.Class) -> list[griffe.Object]:
    """Public members with a docstring: those of the class, and those of its bases in the package."""
    found = []
    for name, member in thing.all_members.items():
        target = member.final_target if member.is_alias else member
        inside = target.canonical_path.startswith(PACKAGE)
        if not name.startswith("_") and inside and target.docstring and (target.is_function or target.is_attribute):
            found.append(target)
    return found


def _function(name: str, module: str, thing: griffe.Function, kind: str) -> str:
    options = [f":{label}:" for label in ("staticmethod", "classmethod") if label in thing.labels]
    returns = f" -> {thing.returns}" if thing.returns else ""
    return _directive(kind, f"{name}{_parameters(thing)}{returns}", module, _sections(thing), options)


def _directive(
    kind: str, signature: str, module: str, body: str, options: Sequence[str] = (), *, colons: int = 5
) -> str:
    fence = ":" * colons
    return "\n".join([f"{fence}{{py:{kind}}} {signature}", f":module: {module}", *options, "", body, fence])


def _type(thing: griffe.Object) -> str:
    return str(thing.annotation or "")


def _parameters(thing: Any) -> str:
    shown, starred = [], False
    for parameter in thing.parameters:
        kind = parameter.kind.value if parameter.kind else ""
        if parameter.name in {"self", "cls"} and not shown:
            continue
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        if kind == "keyword-only" and not starred:
            shown.append("*")
            starred = True
        starred = starred or bool(stars)
        text = f"{stars}{parameter.name.lstrip('*')}"
        text += f": {parameter.annotation}" if parameter.annotation else ""
        text += f" = {parameter.default}" if parameter.default is not None and not stars else ""
        shown.append(text)
    return f"({', '.join(shown)})"


def _parsed(thing: griffe.Object) -> list[Any]:
    return list(thing.docstring.parse("google", warnings=False)) if thing.docstring else []


def _sections(thing: griffe.Object) -> str:
    """The docstring as Markdown; arguments, results and errors as fields."""
    return "\n".join(part for section in _parsed(thing) for part in (*_section(section, _returned(thing)), ""))


def _returned(thing: griffe.Object) -> str:
    """The text below `Returns:`, in which griffe would take words before a colon for a type."""
    text = inspect.cleandoc(thing.docstring.value) if thing.docstring else ""
    found = re.search(r"^(?:Returns|Yields):\n((?:[ ]{4}.*(?:\n|$)|\n)+)", text, flags=re.MULTILINE)
    return textwrap.dedent(found[1]) if found else ""


def _section(section: Any, returned: str) -> Iterator[str]:
    kind, value = section.kind.value, section.value
    if kind == "text":
        yield _examples_fenced(value)
    elif kind in {"parameters", "other parameters"}:
        yield from (_field(f"param {str(item.name).lstrip('*')}", item.description) for item in value)
    elif kind == "raises":
        yield from (_field(f"raises {item.annotation}", item.description) for item in value)
    elif kind in {"returns", "yields"}:
        yield _field("returns", returned)
    elif kind == "attributes":
        yield "| Attribute | |\n|---|---|"
        yield from (f"| `{item.name}` | {_cell(item.description)} |" for item in value)
    elif kind == "examples":
        yield from ("**Example**", "")
        for shown, text in value:
            yield text if shown.value == "text" else f"```pycon\n{text}\n```"
    elif kind == "admonition":
        yield from (f"**{(section.title or value.kind).rstrip('s').capitalize()}**", "")
        yield _examples_fenced(value.description)
    else:
        raise ValueError(f"a section {kind!r} of a docstring has no form on the site; add one to _section")


def _examples_fenced(text: str) -> str:
    """What starts with `>>>` as code, up to the next empty line."""
    return re.sub(
        r"^>>>.*?(?=\n\n|\Z)", lambda found: f"```pycon\n{found[0]}\n```", text, flags=re.DOTALL | re.MULTILINE
    )


def _field(name: str, text: str) -> str:
    return f":{name}: " + textwrap.indent(text.strip(), "    ").lstrip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
