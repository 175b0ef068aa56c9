"""What is wrong with a file, for the one place that names the file."""

from __future__ import annotations

ANOTHER_COPY = "use another copy of the file, or transform the model and save the network again"


class Damaged(Exception):
    """A file is not what `save` writes.

    Args:
        expected: what was expected.
        found: what was found.
        remedy: what to do.
    """

    def __init__(self, expected: str, found: str, remedy: str = ANOTHER_COPY) -> None:
        super().__init__(f"expected {expected}, found {found}; {remedy}.")
