"""Symbolic regression by small networks: from samples to formulas."""

from kanserve.search.findings.find_formulas import find_formulas
from kanserve.search.findings.progress import Improvement
from kanserve.search.findings.results import Findings
from kanserve.search.findings.scored_formula import ScoredFormula
from kanserve.search.findings.several_outputs import FindingsByOutput

__all__ = ["Findings", "FindingsByOutput", "Improvement", "ScoredFormula", "find_formulas"]
