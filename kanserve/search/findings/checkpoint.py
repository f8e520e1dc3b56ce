"""A checkpoint of a search: findings in a file, written at each improvement, so that a killed search loses nothing."""

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
    """Writes the formulas so far to a file, or nothing without a path."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path: Path | None = None if path is None else check_path(path)
        self._kept: list[ScoredFormula] = []

    def add_saved_start(self, start: Any) -> Any:
        """What to start from: also the formulas of an earlier, killed search in the file."""
        if self.path is None or not self.path.exists():
            return start
        earlier = Findings.load(self.path)
        return earlier if start is None else [start, earlier]

    def keep(self, found: Sequence[ScoredFormula]) -> None:
        """Write these beside what was kept before."""
        self._kept += found
        if self.path is not None and self._kept:
            pareto_front(self._kept, None, "interrupted").save(self.path)

    def improving(self, finisher: Finisher) -> Callable[[Hit], None] | None:
        """What a search calls with each better formula; the finisher has no time, so that it leaves it as it is."""

        def save(hit: Hit) -> None:
            found = finisher.finish(hit.node)
            if found is not None:
                self.keep([found])

        return None if self.path is None else save

    def finish(self, found: Findings, selection: Selection) -> Findings:
        """The result of a search with the best formula by a rule, which is written too."""
        found = found.chosen(selection)
        if self.path is not None:
            found.save(self.path)
        return found
