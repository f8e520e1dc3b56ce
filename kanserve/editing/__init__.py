"""Edit a network step by step: suggestions with their price, named functions, constants, undo, and a replay.

A `Session` is a list of frozen steps, each `Kan -> Kan` and deterministic; a `Snapshot` is all that a view receives.
"""

from kanserve.editing.session import Session
from kanserve.editing.snapshot import Done, EdgeView, FormulaView, Snapshot
from kanserve.editing.steps import KINDS, Step
from kanserve.editing.suggestions import Suggestion

__all__ = ["KINDS", "Done", "EdgeView", "FormulaView", "Session", "Snapshot", "Step", "Suggestion"]
