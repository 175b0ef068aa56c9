"""Files of the repository that are pages of the site as well."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "tests/README.md": "tests.md",
}
REPOSITORY = {  # links of these files, and where they lead on the site
    "docs/architecture.md": "architecture.md",
    "docs/decisions/index.md": "decisions/index.md",
    "tests/README.md": "tests.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}


def make(docs: Path) -> None:
    """Copy pages and notebooks into the folder `copied`, with links that lead to pages of the site."""
    folder, root = docs / "copied", docs.parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file, page in PAGES.items():
        text = (root / file).read_text(encoding="utf-8")
        for link, target in REPOSITORY.items():
            there = target if (docs / target).exists() else None
            text = re.sub(rf"\]\({re.escape(link)}(#[^)]*)?\)", rf"]({'../' if there else ''}{target}\1)", text)
        (folder / page).write_text(text, encoding="utf-8")
    for file in sorted((root / "tutorials").glob("*")):
        if file.suffix in {".ipynb", ".py"}:  # modules are linked by notebooks, to be downloaded
            shutil.copy(file, folder / file.name)
