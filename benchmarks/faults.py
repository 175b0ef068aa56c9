"""Faults to put into single lines of the package; `mutants.py` checks whether a certificate notices each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        name: Description of the fault.
        file: File of the package.
        old: Text to replace.
        new: Text that replaces one occurrence of it.
        method: Method by which `transform` looks for regions.
        which: Number of the occurrence of `old` that is replaced, from 0.
    """

    name: str
    file: str
    old: str
    new: str
    method: str = "auto"
    which: int = 0

    def apply(self, folder: Path) -> None:
        """Change the file in a folder that contains the package.

        Raises:
            ValueError: The file no longer contains the text.
        """
        path = folder / "torch_shallow" / self.file
        parts = path.read_text(encoding="utf-8").split(self.old)
        if len(parts) < self.which + 2:
            raise ValueError(f"{self.name}: {self.file} no longer contains {self.old!r}.")
        before, after = self.old.join(parts[: self.which + 1]), self.old.join(parts[self.which + 1 :])
        path.write_text(before + self.new + after, encoding="utf-8")


RAYS, CONE, PAIRS = "search/engines/ray_walk.py", "geometry/rays/cone.py", "geometry/rays/pairs.py"
PROGRAMS, COMPOSE, MAPS = "search/engines/simplex_walk.py", "search/problem.py", "search/compose_maps.py"
ORDER, BALANCE, AFFINE = "search/order_cuts.py", "search/balance.py", "search/affine_maps.py"
LAYERS, KERNELS, CHART = "functions/layers.py", "functions/operators/kernels.py", "geometry/chart.py"

MUTANTS = (
    # Engines: cells by their rays.
    Mutant(
        "a cut must reach a million times further",
        RAYS,
        "threshold, doubt = tolerance * stack.norms[neuron]",
        "threshold, doubt = 1e6 * tolerance * stack.norms[neuron]",
    ),
    Mutant(
        "settled neurons have the other sign", RAYS, "offset + i, 1 if rises else 0", "offset + i, 0 if rises else 1"
    ),
    Mutant("lines count in one direction only", RAYS, "max(high[i], abs(value[i]))", "max(high[i], value[i])"),
    Mutant("negative rays are not seen", RAYS, "low[i] = min(low[i], value[i])", "low[i] = min(low[i], 0.0)"),
    Mutant("undecided neurons become active", RAYS, "1 if greatest > doubt else 0", "1"),
    Mutant(
        "children forget a line",
        RAYS,
        "greatest = max(greatest, abs(values[r]))",
        "greatest = max(greatest, values[r])",
    ),
    Mutant("sides of children are exchanged", RAYS, "frames[child, SIDE] = side", "frames[child, SIDE] = 1 - side"),
    Mutant("open neurons are passed over after a cut", RAYS, "range(stack.frames[frame[UP], OPEN])", "range(1)"),
    Mutant(
        "a ray is left out of interior points",
        RAYS,
        "range(start, start + lines + rays)",
        "range(start, start + lines + 1)",
    ),
    Mutant("vertices are taken for directions", RAYS, "if stage == num_stages - 1 else 0.0", ""),
    Mutant("what is nearly flat is flat", RAYS, "FLATNESS = 1e-4", "FLATNESS = 1e9"),
    Mutant(
        "new rays lie beside the hyperplane",
        CONE,
        "ids[a], abs(values[b - start]), ids[b], abs(values[a - start])",
        "ids[a], abs(values[a - start]), ids[b], abs(values[b - start])",
    ),
    Mutant("children keep the rays of the other side", CONE, "if side == 1 else (lower", "if side == 0 else (lower"),
    Mutant("facets are not noted", CONE, "sets[at, word] |= bit", "sets[at, word] |= np.uint64(0)", which=1),
    Mutant("adjacent rays are missed", PAIRS, "needed, found = pointed - 2, 0", "needed, found = pointed - 1, 0"),
    Mutant("half-spaces that are facets are dropped", CONE, "if redundant or not met:", "if redundant or met:"),
    Mutant("rays are sheared off the hyperplane", CONE, "-values[r] / values[pivot]", "values[r] / values[pivot]"),
    Mutant("a line ends on the wrong side", CONE, "(side == 1) else -direction", "(side == 0) else -direction"),
    # Engines: cells by half-spaces.
    Mutant(
        "proofs are read the wrong way",
        PROGRAMS,
        "return 0 if sign > 0.0 else 1",
        "return 1 if sign > 0.0 else 0",
        "lp",
    ),
    Mutant("bounds settle too much", PROGRAMS, "if high <= cells.doubts[offset + i]:", "if low <= 0.0:", "lp"),
    Mutant("children inherit points outside", PROGRAMS, "if value >= 0.0:", "if value >= -np.inf:", "lp"),
    Mutant("rows of the path are turned round", PROGRAMS, "stage, 1.0 if frame[SIDE] else -1.0", "stage, 1.0", "lp"),
    # Composition.
    Mutant(
        "rows are composed of inactive neurons", COMPOSE, "if pattern[first + j] == 1:", "if pattern[first + j] == 0:"
    ),
    Mutant("a fourth neuron is left out", COMPOSE, " + by_d * of_d[i]", ""),
    Mutant("a fifth neuron is left out", COMPOSE, "for j in range(fours, active", "for j in range(fours + 1, active"),
    Mutant("values are measured by nothing", COMPOSE, "CANCELLATION = 1e-3", "CANCELLATION = 1e6"),
    Mutant(
        "a stage too few is composed anew",
        MAPS,
        "network.offsets[stage + 1] <= neuron",
        "network.offsets[stage] <= neuron",
    ),
    Mutant(
        "cuts have the row of the next neuron", MAPS, "k * n + neuron - offset]", "k * n + (neuron + 1 - offset) % n]"
    ),
    Mutant("biases of local models are lost", MAPS, "biases[region, o] = rows", "biases[region, o] = 0.0 * rows"),
    Mutant("bits of a byte are read backwards", MAPS, "(7 - (neuron & 7))) & 1", "(neuron & 7)) & 1"),
    Mutant(
        "local models are those of the next region", AFFINE, "biases, skip), fill", "np.roll(biases, 1, 0), skip), fill"
    ),
    Mutant(
        "what passes by all neurons counts twice",
        AFFINE,
        "skip = out_weight[:, :d].copy()",
        "skip = 2 * out_weight[:, :d]",
    ),
    Mutant("coordinates are measured in other units", AFFINE, "basis / units, basis * units", "basis, basis * units"),
    # The tree.
    Mutant("leaves hang on the other side", ORDER, "parent & 1] = ~found", "1 - (parent & 1)] = ~found"),
    Mutant("regions lie on the wrong side", ORDER, "        active += bit", "        active += 1 - bit"),
    Mutant(
        "patterns are not renumbered",
        BALANCE,
        "_taken(tree.packed_patterns, first, threads)",
        "tree.packed_patterns[: len(first)]",
    ),
    # Selection.
    Mutant("points go down on the other side", KERNELS, "np.uint64(z > 0.0)", "np.uint64(z < 0.0)", which=1),
    Mutant("cuts lie a little aside", KERNELS, "np.uint64(z > 0.0)", "np.uint64(z > 1e-4)", which=1),
    Mutant(
        "a coordinate is left out of a cut",
        KERNELS,
        "z += row[c] * x[c]",
        "z += row[c] * x[c] * (c > 0 or last == 1)",
        which=1,
    ),
    Mutant(
        "local models are of the region before",
        KERNELS,
        "total = biases[k, o] if constant",
        "total = biases[k - 1, o] if constant",
    ),
    Mutant("the output is rounded to float32", KERNELS, "y[p, o] = total", "y[p, o] = np.float32(total)"),
    # What all begin with.
    Mutant("the origin of the domain is forgotten", CHART, "weight @ self.origin + bias", "bias"),
    Mutant(
        "a wall of the box is missing",
        CHART,
        "walls = np.concatenate([rows[p] - rows[:n], ",
        "walls = np.concatenate([rows[p] - rows[1:n], ",
    ),
    # Small ones.
    Mutant(
        "a cut must reach a thousand times further",
        RAYS,
        "threshold, doubt = tolerance * stack.norms[neuron]",
        "threshold, doubt = 1e3 * tolerance * stack.norms[neuron]",
    ),
    Mutant(
        "a neuron settles a thousand times earlier",
        COMPOSE,
        "doubts[i] = min(max(ROUNDING * terms, network.harmless[i]), tolerance * norms_of_all[i])",
        "doubts[i] = 1e3 * tolerance * norms_of_all[i]",
    ),
    Mutant("cuts lie aside by a billionth", KERNELS, "np.uint64(z > 0.0)", "np.uint64(z > 1e-9)", which=1),
    Mutant("slopes are off by a hundred millionth", KERNELS, "y[p, o] = total", "y[p, o] = total * (1.0 + 1e-8)"),
    Mutant(
        "half-spaces are rounded to float32",
        LAYERS,
        '"rows", _tensor(rows))',
        '"rows", _tensor(rows.astype(np.float32).astype(np.float64)))',
    ),
)
