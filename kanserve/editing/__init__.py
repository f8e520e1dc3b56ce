"""Edit a network step by step: suggestions with their cost, named functions, constants, undo and replay. A `Session` is
a list of frozen steps, each a deterministic `Kan -> Kan`; a `Snapshot` is the plain data for a view."""

from kanserve.editing.session import Session
from kanserve.editing.snapshot import Done, EdgeView, FormulaView, Snapshot
from kanserve.editing.steps import KINDS, Step
from kanserve.editing.suggestions import Suggestion

__all__ = ["KINDS", "Done", "EdgeView", "FormulaView", "Session", "Snapshot", "Step", "Suggestion"]
