"""Certification: checks and proofs that a network is the model, and that answers to questions are right."""

from torch_shallow.certify.checks import certify
from torch_shallow.certify.report import Certificate, Check, Failure

__all__ = ["Certificate", "Check", "Failure", "certify"]
