"""Verdicts on properties: `subject` is what is verified, `hunt` looks for violations, `verdict` says what is proven."""

from torch_shallow.verdicts.verdict import Verdict

__all__ = ["Verdict"]
