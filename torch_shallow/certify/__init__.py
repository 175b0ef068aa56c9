"""Why the result is right."""

from torch_shallow.certify.checks import certify
from torch_shallow.certify.report import Certificate, Check, Failure

__all__ = ["Certificate", "Check", "Failure", "certify"]
