"""Symbolic regression by small networks: from rows to formulas."""

from kanserve.search.findings import Findings, Found
from kanserve.search.searching import find_formulas
from kanserve.search.watching import Improvement

__all__ = ["Findings", "Found", "Improvement", "find_formulas"]
