"""Picture of the tree of a network of few regions, to be read from left to right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.features import Features
from torch_shallow.explain.locally.rule_set import RuleSet, rules
from torch_shallow.explain.locally.rules import inequality, number
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.optional import require
from torch_shallow.plot.canvas import axes_for
from torch_shallow.plot.lettering import in_lines, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.font_manager import FontProperties

MOST_LEAVES = 64
MOST_LINES = 256
SIZE, SMALLEST = 9.0, 5.0  # default and smallest size of letters, in points
NODE, LEAF = 150.0, 380.0  # largest width of a line of text in a node and in a leaf, in points
LINE = 1.3 * SIZE  # height of a line
PAD, GAP = 4.0, 30.0  # padding around a text, and gap between columns, with room for "yes" and "no"


@dataclass(frozen=True)
class _Branch:
    """An inner node: its question, and the children for the answers yes and no; `c < 0` is rule `~c`."""

    text: str
    yes: int
    no: int


def tree(
    shallow: ShallowReLU,
    *,
    features: Features | Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    x: Tensor | None = None,
    digits: int = 4,
    ax: Axes | None = None,
) -> Axes:
    """Draw the tree of a network of few regions, with a question in each node and a rule in each leaf.

    From the root on the left, the answer yes leads up and the answer no leads down. A leaf shows the number and the
    formulas of its rule, as in `torch_shallow.explain.rules`; the proven error, if the network comes from
    `torch_shallow.simplify`; and the number of rows of data, if there are any.

    Args:
        shallow: a complete network of at most 64 regions, such as `torch_shallow.simplify` makes.
        features: names of the entries of the flattened input, or `Features` that also give their units.
        output_names: names of the entries of the flattened output of the trunk; numbered if None.
        x: rows of data as the network reads them, of shape `(rows, *in_shape)`, to be counted.
        digits: significant digits of the numbers.
        ax: matplotlib axes; if None, those of a new figure that is as large as the tree needs. In smaller axes the
            letters become smaller.

    Returns:
        The axes.

    Raises:
        WrongTypeError: `shallow` is not a `ShallowReLU`.
        TransformError: the tree is too large or the axes are too small to be read, the network is incomplete, or the
            number of features or output names is wrong.
        ImportError: matplotlib is not installed.

    Example:
        >>> import torch, torch_shallow
        >>> from torch_shallow.plot import tree
        >>> from matplotlib.figure import Figure
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.ReLU(), torch.nn.Linear(6, 1))
        >>> simple = torch_shallow.simplify(model, torch_shallow.Box(-1.0, 1.0), max_regions=3)
        >>> ax = tree(simple, features=["bmi", "age"], ax=Figure(figsize=(8, 4)).subplots())
    """
    if not isinstance(shallow, ShallowReLU):
        raise WrongTypeError(
            f"shallow: expected a ShallowReLU of few regions, found {type(shallow).__name__}; make one by "
            "simplify(model, domain, max_regions=20)."
        )
    if shallow.num_regions > MOST_LEAVES:
        raise TransformError(
            f"shallow: expected at most {MOST_LEAVES} regions, whose tree can be read, found "
            f"{shallow.num_regions:,}; make a network of few by simplify(model, domain, max_regions=20), or print up "
            "to 1,000 regions as text by explain.rules."
        )
    named = rules(shallow, features=features, digits=digits, x=x, output_names=output_names)
    return _Layout(named, _branches(named)).draw(ax)


def _branches(found: RuleSet) -> list[_Branch]:
    """Questions of the tree, root first."""
    shape = found[0].region.function.tree
    branches: list[Any] = [None] * shape.num_cuts
    for region, rule in enumerate(found):
        steps = shape.path(region)
        a, b = rule.region.half_spaces.numpy()
        for (cut, active), row, bound in zip(steps, a, b, strict=False):
            if branches[cut] is None:
                sign = -1.0 if active else 1.0
                text, above = _question(found, sign * row, -sign * float(bound))
                inactive, active_child = map(int, shape.children[cut])
                branches[cut] = _Branch(text, *((active_child, inactive) if above else (inactive, active_child)))
    return branches


def _question(found: RuleSet, normal: np.ndarray, offset: float) -> tuple[str, bool]:
    """Text for the side of `normal x + offset = 0` whose first coefficient is positive, and whether it is that above 0.

    On the hyperplane itself, the network takes the other side.
    """
    features = found.features
    by_unit, constant = features.affine(normal[None], np.array([offset]))
    weight, bias = by_unit[0], float(constant[0])
    size = np.abs(weight * features.scale)
    read = np.flatnonzero(size > 1e-12 * size.max())
    if len(read) == 0:
        return f"0 > {number(-bias, found.digits)}", True
    above = bool(weight[read[0]] > 0.0)
    scale = abs(float(weight[read[0]])) if len(read) == 1 else 1.0
    sign = (1.0 if above else -1.0) / scale
    text = inequality(-sign * weight, sign * bias, features.names, found.digits, None, features.scale)
    return text.replace(" >= ", " > " if above else " ≥ "), above


class _Layout:
    """Positions of nodes and leaves, in points from the lower left corner of the picture.

    Args:
        found: the rules.
        branches: the questions.
    """

    def __init__(self, found: RuleSet, branches: list[_Branch]) -> None:
        require("matplotlib", "plot")
        from matplotlib.font_manager import FontProperties

        self._font, self._branches, self._found = FontProperties(size=SIZE), branches, found
        self._nodes = [in_lines(_terms(branch.text), self._font, NODE) for branch in branches]
        self._leaves = [self._leaf(region) for region in range(len(found))]
        lines = sum(text.count("\n") + 1 for text in self._leaves)
        if lines > MOST_LINES:
            raise TransformError(
                f"shallow: expected formulas of at most {MOST_LINES} lines in all, which can be read, found {lines}; "
                "make shorter ones by simplify(model, domain, max_terms=3), or print these by explain.rules."
            )
        self._order, self._depth = self._walk()
        depths = max(self._depth, default=-1) + 1
        wide = [
            max(_wide(self._nodes[k], self._font) for k, at in enumerate(self._depth) if at == depth)
            for depth in range(depths)
        ]
        self._columns = np.cumsum([2.0 * PAD, *(each + GAP for each in wide)])
        self._widths = wide
        self.width = float(self._columns[-1]) + max(_wide(text, self._font) for text in self._leaves) + 2.0 * PAD
        highest = max(map(_high, self._nodes), default=0.0)
        heights = [max(_high(self._leaves[region]), highest) for region in self._order]
        self.height = float(sum(heights)) + LINE + 2.0 * PAD
        tops = self.height - PAD - np.concatenate([[0.0], np.cumsum(heights)[:-1]])
        self._at = {
            ~region: float(top - high / 2) for region, top, high in zip(self._order, tops, heights, strict=True)
        }
        for node in reversed(range(len(branches))):  # children come after their parents
            self._at[node] = (self._at[branches[node].yes] + self._at[branches[node].no]) / 2

    def draw(self, ax: Any) -> Axes:
        """Draw the tree.

        Raises:
            TransformError: the axes are too small.
        """
        scale = 1.0
        if ax is None:
            ax = axes_for(None, figsize=(self.width / 72.0, self.height / 72.0))
            ax.get_figure().set_layout_engine("none")
            ax.set_position([0.0, 0.0, 1.0, 1.0])
        else:
            scale = self._scale(ax)
        if SIZE * scale < SMALLEST:
            need = [f"{size * SMALLEST / SIZE / 72.0:.1f}" for size in (self.width, self.height)]
            raise TransformError(
                f"ax: expected axes of at least {need[0]} by {need[1]} inches, in which this tree can be read, found "
                "smaller ones; leave it out for a figure of the right size."
            )
        ax.set_axis_off()
        ax.set_xlim(0.0, self.width)
        ax.set_ylim(0.0, self.height)
        text: dict[str, Any] = {"va": "center", "fontsize": SIZE * scale, "linespacing": 1.2}
        for node, branch in enumerate(self._branches):
            self._edges(ax, node, branch, SIZE * scale)
            box = {"boxstyle": "round,pad=0.35", "facecolor": "#DCE9F5", "edgecolor": "#4477AA", "linewidth": 0.6}
            ax.text(self._columns[self._depth[node]], self._at[node], self._nodes[node], bbox=box, **text)
        for region, leaf in enumerate(self._leaves):
            box = {"boxstyle": "round,pad=0.35", "facecolor": "#F5F1DC", "edgecolor": "#BBAA66", "linewidth": 0.6}
            ax.text(self._columns[-1], self._at[~region], leaf, bbox=box, **text)
        note = f"numbers rounded to {self._found.digits} digits"
        ax.text(PAD, LINE / 2, note, va="center", fontsize=0.8 * SIZE * scale, color="#666666")
        return ax

    def _edges(self, ax: Any, node: int, branch: _Branch, size: float) -> None:
        """Draw the lines to both children, with their answers."""
        start = self._columns[self._depth[node]] + self._widths[self._depth[node]] - PAD
        for child, answer in ((branch.yes, "yes"), (branch.no, "no")):
            end = self._columns[-1 if child < 0 else self._depth[child]]
            bend, here, there = start + 2.0 * PAD, self._at[node], self._at[child]
            path = [self._columns[self._depth[node]], bend, bend, end], [here, here, there, there]
            ax.plot(*path, color="#888888", linewidth=0.7, zorder=0)
            ax.text(bend + 2.0, there + 1.5, answer, fontsize=0.75 * size, color="#444444", va="bottom")

    def _scale(self, ax: Any) -> float:
        extent, figure = ax.get_window_extent(), ax.get_figure(root=True)
        have = extent.width * 72.0 / figure.dpi, extent.height * 72.0 / figure.dpi
        return min(1.0, have[0] / self.width, have[1] / self.height)

    def _leaf(self, region: int) -> str:
        """Text of a rule."""
        found = self._found
        lines = [in_lines(_terms(formula), self._font, LEAF) for formula in found.formulas(region)]
        said = []
        if found.rows is not None:
            said.append(f"{int(found.rows[region]):,} of {found.num_rows:,} rows")
        if found.errors is not None:
            worst = [number(float(error), 3) for error in found.errors[region]]
            said.append(f"off by at most {', '.join(worst)}, proven")
        if said:
            lines.append(f"({'; '.join(said)})")
        return f"{region + 1}.  " + "\n".join(lines).replace("\n", "\n      ")

    def _walk(self) -> tuple[list[int], list[int]]:
        """Regions from top to bottom, and the depth of each node."""
        depth, order = [0] * len(self._branches), []
        waiting = [0 if self._branches else ~0]
        while waiting:
            node = waiting.pop()
            if node < 0:
                order.append(~node)
                continue
            branch = self._branches[node]
            for child in (branch.no, branch.yes):  # yes is popped next
                if child >= 0:
                    depth[child] = depth[node] + 1
                waiting.append(child)
        return order, depth


def _terms(text: str) -> str:
    """A sum with breakable spaces only between its terms; those within terms are non-breaking."""
    return re.sub(
        r" ([-+>≥]) (?:(\d\S*) )?", lambda term: f" {term[1]}\u00a0" + f"{term[2]}\u00a0" * bool(term[2]), text
    )


def _wide(text: str, font: FontProperties) -> float:
    return max(width_of(line, font) for line in text.split("\n")) + 2.0 * PAD


def _high(text: str) -> float:
    return (text.count("\n") + 1) * LINE + 2.0 * PAD
