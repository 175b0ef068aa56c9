"""Decide properties: `hunt` searches for violations, and `verdict` reports what is proven."""

from torch_shallow.verdicts.verdict import Verdict

__all__ = ["Verdict"]
