"""The contract, for the tests: see tools/contract.py."""

from tools.contract import DESCRIPTORS, OURS, ROOT, Contract, Field, Method, load, rules

__all__ = ["DESCRIPTORS", "OURS", "ROOT", "Contract", "Field", "Method", "load", "rules"]
