"""Run the notebooks and keep their outputs: `python -m tutorials.execute` rewrites all of them."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parent


def execute(path: Path) -> nbformat.NotebookNode:
    """A notebook with the outputs of a new run, in the folder that it is in.

    Raises:
        CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=300,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    return notebook


if __name__ == "__main__":
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        nbformat.write(execute(path), path)
