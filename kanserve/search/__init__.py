"""Symbolic regression by small networks: from rows to formulas."""

from kanserve.search.findings import Findings, Found
from kanserve.search.searching import find_formulas

__all__ = ["Findings", "Found", "find_formulas"]
