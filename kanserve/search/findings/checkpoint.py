"""Save the findings to a file at each improvement, so that a killed search loses nothing."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kanserve.search.findings.file import check_path
from kanserve.search.findings.pareto_front import pareto_front
from kanserve.search.findings.postprocess import Finisher
from kanserve.search.findings.progress import Hit
from kanserve.search.findings.results import Findings, Selection
from kanserve.search.findings.scored_formula import ScoredFormula


class SearchCheckpoint:
    """Writes the formulas found so far to a file; does nothing if `path` is None."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path: Path | None = None if path is None else check_path(path)
        self._kept: list[ScoredFormula] = []

    def add_saved_start(self, start: Any) -> Any:
        """Add the formulas that an earlier, killed search left in the file to the starting formulas."""
        if self.path is None or not self.path.exists():
            return start
        earlier = Findings.load(self.path)
        return earlier if start is None else [start, earlier]

    def keep(self, found: Sequence[ScoredFormula]) -> None:
        """Add formulas to the file."""
        self._kept += found
        if self.path is not None and self._kept:
            pareto_front(self._kept, None, "interrupted").save(self.path)

    def improving(self, finisher: Finisher) -> Callable[[Hit], None] | None:
        """A callback that saves each better formula, or None without a path. `finisher` should have no time left, so
        that it does not simplify."""

        def save(hit: Hit) -> None:
            found = finisher.finish(hit.node)
            if found is not None:
                self.keep([found])

        return None if self.path is None else save

    def finish(self, found: Findings, selection: Selection) -> Findings:
        """Choose the best formula by `selection`, write the findings to the file, and return them."""
        found = found.chosen(selection)
        if self.path is not None:
            found.save(self.path)
        return found
