"""Verdicts on properties: `hunt` looks for violations, `verdict` says what is proven."""

from torch_shallow.verdicts.verdict import Verdict

__all__ = ["Verdict"]
