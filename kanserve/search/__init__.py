"""Symbolic regression by small networks: from samples to formulas."""

from kanserve.search.driver.find_formulas import find_formulas
from kanserve.search.driver.results import Findings
from kanserve.search.driver.scored_formula import ScoredFormula
from kanserve.search.driver.search_progress import Improvement
from kanserve.search.driver.several_outputs import FindingsByOutput

__all__ = ["Findings", "FindingsByOutput", "Improvement", "ScoredFormula", "find_formulas"]
