"""The tests with the installed package, in fresh environments: each Python, lowest and newest versions, each extra.

The wheel and the source distribution are built and checked. Each environment gets the wheel; the tests are those of the
source distribution, without the package, so that they import what is installed. Only the standard library is needed;
interpreters are found on PATH (`python3.10` and so on). pip reads its options from the environment, such as
PIP_INDEX_URL; a plain `torch` may be a build with CUDA, of several gigabytes.

    python -m benchmarks.matrix                     # all, one after the other
    python -m benchmarks.matrix lowest newest       # these
    python -m benchmarks.matrix --folder /tmp/m     # where environments are made, and removed again
"""

from __future__ import annotations

import argparse
import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]
TOOLS = ("hypothesis", "pytest", "pytest-xdist")
SHOWN = ("torch", "numpy", "numba", "cvxpy", "scipy", "highspy")
EXTRAS = "explain,plot,onnx,dask"
# The public surface, each part once: what most of it rests on is in the tests that are marked as quick.
SURFACE = (
    "tests/test_downstream.py",
    "tests/test_transform.py",
    "tests/test_verify.py",
    "tests/test_region.py",
    "tests/test_domain.py",
    "tests/test_constraints.py",
    "tests/test_extras.py",
    "tests/modules/test_files_hash.py",
    "tests/explain/test_table.py",
    "tests/plot/test_segment.py",
    "tests/program/test_wrappers.py",
)
# Old releases of libraries are warned of by new ones, and new releases warn of what will change; torch.compile warns of
# the first release of Python 3.13.
WARNINGS = (
    "-Wdefault::DeprecationWarning",
    "-Wdefault::PendingDeprecationWarning",
    "-Wdefault::FutureWarning",
    "-Wdefault:Guards may run slower:RuntimeWarning",
)
OF_EXTRAS = ("tests/program/test_onnx.py", "tests/search/runs/test_dask.py", "tests/test_from_sklearn.py")

# These read the source of the package, or need what only the tutorials need.
NOT_OF_A_WHEEL = ("--ignore=tests/test_documentation.py", "--ignore=tests/test_tutorials.py")


@dataclass(frozen=True)
class Combination:
    """An interpreter, and versions for it.

    Attributes:
        python: the version of the interpreter.
        versions: "lowest" that pyproject.toml allows, "newest", or those of "constraints.txt".
        extras: what is installed beside the package.
        tests: arguments of pytest.
        typed: also check the types of a program that uses the package, by mypy and pyright.
    """

    python: str
    versions: str
    extras: str = EXTRAS
    tests: tuple[str, ...] = (*SURFACE, *OF_EXTRAS)
    typed: bool = False


def only(extra: str, *tests: str) -> Combination:
    """One extra by itself: what it brings works, and what needs another one says which."""
    return Combination("3.11", "constraints", extra, ("tests/test_extras.py", *tests))


COMBINATIONS = {
    "bare": Combination("3.11", "constraints", extras="", tests=SURFACE),
    "lowest": Combination("3.10", "lowest"),
    "constraints-3.11": Combination(
        "3.11", "constraints", tests=("-m", "quick and not slow", *NOT_OF_A_WHEEL), typed=True
    ),
    "constraints-3.12": Combination("3.12", "constraints"),
    "newest": Combination("3.13", "newest"),
    "explain": only("explain", "tests/explain/test_table.py", "tests/explain/test_adjacency.py"),
    "plot": only("plot", "tests/plot/test_segment.py"),
    "onnx": only("onnx"),
    "dask": only("dask", "-m", "slow or not slow", "tests/search/runs/test_dask.py"),
}


def main() -> None:
    """Try combinations, print a table, and fail unless all of them pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of combinations: {', '.join(COMBINATIONS)}")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "matrix", help="where environments are made")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(COMBINATIONS)
    if unknown:
        parser.error(f"no combination is called {', '.join(sorted(unknown))}; there are {', '.join(COMBINATIONS)}")
    folder = arguments.folder.resolve()
    wheel, source = build(folder)
    rows: list[tuple[str, ...]] = [("combination", "Python", *SHOWN, "outcome")]
    passed = True
    for name in arguments.names or COMBINATIONS:
        try:
            row, good = tried(COMBINATIONS[name], wheel, source, folder / name)
        except (OSError, subprocess.CalledProcessError) as error:
            row, good = ("", *("" for _ in SHOWN), str(error)[:200]), False
        rows.append((name, *row))
        passed &= good
        print(table(rows), flush=True)
    sys.exit(not passed)


def build(folder: Path) -> tuple[Path, Path]:
    """Build both distributions, and look at what is in them; returns the wheel and the source distribution."""
    python = new_environment(folder / "tools", sys.executable, ["build", "twine"])
    distributions = folder / "dist"
    shutil.rmtree(distributions, ignore_errors=True)
    run(python, "-m", "build", "--outdir", distributions, ROOT, quiet=True)
    run(python, "-m", "twine", "check", "--strict", *distributions.iterdir())
    shutil.rmtree(folder / "tools")
    (wheel,), (source,) = distributions.glob("*.whl"), distributions.glob("*.tar.gz")
    inside = zipfile.ZipFile(wheel).namelist()
    outside = [name for name in inside if not re.match(r"torch_shallow(-[\d.]+\.dist-info)?/", name)]
    absent = {"torch_shallow/py.typed"} - set(inside)
    compiled = [name for name in inside if not name.endswith((".py", "py.typed")) and ".dist-info/" not in name]
    with tarfile.open(source) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    absent |= {"LICENSE", "CHANGELOG.md", "constraints.txt", "tests/zoo.py", "docs/index.md"} - sources
    if outside or absent or compiled or not any(name.endswith("licenses/LICENSE") for name in inside):
        raise SystemExit(f"distributions: not expected {outside + compiled}, expected {sorted(absent)} and a LICENSE")
    return wheel, source


def tried(combination: Combination, wheel: Path, source: Path, folder: Path) -> tuple[tuple[str, ...], bool]:
    """Install a combination, run its tests, and remove it; returns its row of the table, and whether all passed."""
    interpreter = shutil.which(f"python{combination.python}")
    if interpreter is None:
        raise FileNotFoundError(f"no python{combination.python} on PATH")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    extras = f"[{combination.extras}]" if combination.extras else ""
    tools = [*TOOLS, *(["mypy", "pyright"] if combination.typed else [])]
    try:
        python = new_environment(
            folder / "venv", interpreter, [*pins(combination, wheel, folder), f"{wheel}{extras}", *tools]
        )
        run(python, "-m", "pip", "check")
        warnings = () if combination.versions == "constraints" else WARNINGS
        outcome = tested(python, (*combination.tests, *warnings), source, folder)
        if combination.typed:
            outcome += typed(python, folder)
        return (*installed(python), outcome), " failed" not in outcome
    finally:
        shutil.rmtree(folder / "venv", ignore_errors=True)


def pins(combination: Combination, wheel: Path, folder: Path) -> list[str]:
    """Options of pip for the versions of a combination."""
    if combination.versions == "newest":
        return ["--upgrade"]
    if combination.versions == "constraints":
        return ["-c", str(ROOT / "constraints.txt")]
    lines = []
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        for requirement in email.message_from_bytes(archive.read(name)).get_all("Requires-Dist", []):
            needed, _, marker = requirement.partition(";")
            extra = re.search(r'extra == "(\w+)"', marker)
            bound = re.match(r"([\w.-]+).*>=([\d.]+)", needed)
            if bound and (extra is None or extra[1] in combination.extras.split(",")):
                lines.append(f"{bound[1]}=={bound[2]}\n")
    path = folder / "lowest.txt"
    path.write_text("".join(sorted(set(lines))), encoding="utf-8")
    return ["-c", str(path)]


def tested(python: Path, tests: Sequence[str], source: Path, folder: Path) -> str:
    """Run tests of the source distribution beside no source of the package; returns how many passed and so on."""
    report = folder / "report.xml"
    environment = {**clean(), "NUMBA_CACHE_DIR": str(folder / "compiled")}
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    copy = folder / source.name.removesuffix(".tar.gz")
    shutil.rmtree(copy / "torch_shallow")
    where = "import torch_shallow; print(torch_shallow.__file__)"
    imported = run(python, "-c", where, cwd=copy, quiet=True)
    if not Path(imported.strip()).is_relative_to(python.parents[1]):
        raise SystemExit(f"the tests would import {imported.strip()}, not what is installed")
    command = [python, "-m", "pytest", "-q", "-m", "not slow", *tests, "-n", "auto", "--maxprocesses=4"]
    subprocess.run([*map(str, command), f"--junitxml={report}"], cwd=copy, env=environment, check=False)
    suite = next(ET.parse(report).iter("testsuite"))
    count = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    passed = f"{count['tests'] - failed - count['skipped']} passed, {count['skipped']} skipped"
    return f"{passed}, {failed} failed" if failed else passed


def typed(python: Path, folder: Path) -> str:
    """Check the types of a program that uses the installed package; returns what each checker says."""
    program = shutil.copy(ROOT / "tests" / "test_downstream.py", folder / "program.py")
    said = ""
    for checker in (["mypy", "--strict"], ["pyright", "--pythonpath", str(python)]):
        done = subprocess.run([python, "-m", *checker, program], cwd=folder, env=clean(), check=False)
        said += f", {checker[0]} {'failed' if done.returncode else 'passed'}"
    return said


def new_environment(folder: Path, interpreter: str | Path, requirements: Iterable[str]) -> Path:
    """Make a virtual environment; returns its interpreter."""
    run(interpreter, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip")
    run(python, "-m", "pip", "install", "--quiet", *requirements)
    return python


def installed(python: Path) -> list[str]:
    """The versions of the interpreter, and of the packages that the table shows."""
    code = f"import sys; from importlib.metadata import version; print(sys.version.split()[0], *map(version, {SHOWN}))"
    return run(python, "-c", code, quiet=True).split()


def run(*command: object, cwd: Path | None = None, quiet: bool = False) -> str:
    """Run a command that has to succeed; returns what it prints if it is quiet."""
    stdout = subprocess.PIPE if quiet else None
    done = subprocess.run([*map(str, command)], cwd=cwd, env=clean(), stdout=stdout, text=True, check=True)
    return done.stdout or ""


def clean() -> dict[str, str]:
    """The environment of this process, without what would let others import the checkout."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under a head, as Markdown."""
    head, *others = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *others])


if __name__ == "__main__":
    main()
