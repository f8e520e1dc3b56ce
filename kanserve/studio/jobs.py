"""What workers compute: the network after a step, candidates, the loss over edges kept, exports, searches and fits.

Each function is the whole of a call of `Worker.run`: its first argument is the session's rows (None before there are
any).
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from kanserve import repository, train
from kanserve.artifact_compiler import check_files, compile, golden_rows
from kanserve.data.dataset import Dataset
from kanserve.editing import steps
from kanserve.editing.session_data import SessionData, of_numbers, require_sound, restore_encoding
from kanserve.editing.steps import Keep, Prune, Step, Symbolify, exact_text
from kanserve.editing.suggestions import Suggestion, suggestions
from kanserve.errors import ExportError, GoldenError, InputError, KanserveError
from kanserve.network.edge_names import EdgeIndex, edge_names, place_of
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan, equal
from kanserve.runtime import get, names
from kanserve.search import Improvement, find_formulas
from kanserve.simplification import SIMPLIFY_NEGLIGIBLE_ERROR, SimplifyStep
from kanserve.simplification.edge_candidates import LIBRARY

Report = Callable[[Any], None]

RULER_POINTS = 60  # numbers of edges whose loss is measured for the prune ruler
CANDIDATES = 8  # functions that are tried for an edge
_TIMED_ROWS = 1000
LOWEST_PRIORITY = 19  # of a process
ROUNDING = 1e-12  # change of outputs that rounding explains, relative to the largest


@dataclass(frozen=True)
class RulerPoint:
    """So many edges kept, and the held-out loss then; None where the network is not finite. `gone` are the edges that
    the point before still has."""

    edges: int
    loss: float
    gone: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundFormula:
    """A formula of a search: as text and LaTeX, its complexity and held-out RMSE, and the exact text of a step."""

    text: str
    latex: str
    complexity: float
    rmse: float
    take: str
    best: bool


@dataclass(frozen=True)
class Exported:
    """A format's files, and how it compares with the network on the golden rows; `note` says why it does not."""

    format: str
    files: dict[str, bytes]
    largest_gap: float | None
    microseconds: float | None
    note: str = ""


def prepare(rows: SessionData, kan: Kan) -> None:
    """Nothing but what the first look would wait for: imports, and what one evaluation of the network leaves cached."""
    rows.error(kan)


def take_step(rows: SessionData, step: Step, kan: Kan) -> Kan:
    """The network after a step."""
    return steps.take(step, kan, rows)


@np.errstate(all="ignore")
def simplify_steps(rows: SessionData, kan: Kan, report: Report) -> tuple[tuple[Step, Kan], ...]:
    """The steps that `kanserve.simplify` makes, each with the network after it; each change that is kept is reported.

    Interrupted, the steps that are whole. Steps that change nothing are left out.
    """

    def tell(now: SimplifyStep) -> None:
        named = sum(int(layer.symbolic_mask.sum()) for layer in now.kan.layers)
        gone = [name_of[place] for place in sorted(there - _alive_edges(now.kan))]
        report({"line": str(now), "edges": now.edges, "loss": now.loss, "named": named, "gone": gone})

    negligible = SIMPLIFY_NEGLIGIBLE_ERROR
    found: list[tuple[Step, Kan]] = []
    first, kan = kan, of_numbers(kan)
    name_of, there = edge_names(kan), _alive_edges(kan)
    with suppress(KeyboardInterrupt):
        for step in (Prune(), Symbolify(), Prune(negligible)):
            if step.tolerance == negligible and not kan.symbolic:
                break
            after = require_sound(kan, step.apply(kan, rows, tell), rows)
            if _has_changed(kan, after, rows, step):
                found.append((step, restore_encoding(after, first)))
                kan = after
    return tuple(found)


def _has_changed(before: Kan, after: Kan, rows: SessionData, step: Step) -> bool:
    """Whether a step has changed the network; a pruning that removes nothing may refit constants in their last bits."""
    if isinstance(step, Prune) and after.edges == before.edges:
        was, now = evaluate(before, rows.judge.x), evaluate(after, rows.judge.x)
        size = np.abs(was[np.isfinite(was)]).max(initial=0.0)
        return not np.allclose(was, now, rtol=0, atol=ROUNDING * size, equal_nan=True)
    return not equal(after, before)


def candidates(rows: SessionData, kan: Kan, edge: str, functions: Sequence[str]) -> tuple[Suggestion, ...]:
    """The suggestions for an edge, and for functions of the user's whatever their rank."""
    place = place_of(kan, edge)
    found = suggestions(kan, place, rows, LIBRARY, CANDIDATES)
    if not functions:
        return found
    return (*found, *suggestions(kan, place, rows, tuple(functions), len(functions)))


def ruler(rows: SessionData, kan: Kan) -> tuple[RulerPoint, ...]:
    """The held-out loss after `Keep`, for numbers of edges from all to one."""
    counts = np.unique(np.linspace(1, kan.edges, min(kan.edges, RULER_POINTS)).round().astype(int))
    names = edge_names(kan)
    found, left = [], _alive_edges(kan)
    for count in counts[::-1].tolist():
        try:
            after = kan if count == kan.edges else steps.take(Keep(count), kan, rows)
        except KanserveError:  # a function would leave its domain
            found.append(RulerPoint(count, float("nan")))
            continue
        kept = _alive_edges(after)
        found.append(RulerPoint(count, rows.loss(after), tuple(names[place] for place in sorted(left - kept))))
        left &= kept
    return tuple(found)


def _alive_edges(kan: Kan) -> set[EdgeIndex]:
    return {(depth, j, i) for depth, layer in enumerate(kan.layers) for j, i in np.argwhere(layer.alive).tolist()}


def search(
    rows: SessionData, data: Dataset, seconds: float, gives_way: bool, report: Report
) -> tuple[FoundFormula, ...]:
    """Formulas for the data, from the simplest to the most exact; each better one is reported as it is found.

    One that gives way computes when nothing else does. Interrupted, those that were found.
    """
    if gives_way:
        os.nice(LOWEST_PRIORITY)

    def better(now: Improvement) -> None:
        report({"line": str(now), "text": now.text, "complexity": now.complexity, "rmse": now.loss})

    found = find_formulas(data, seconds=seconds, progress=better)
    every = []
    for candidate in found:
        try:
            text = exact_text(candidate.formula, data.inputs)
        except InputError:
            continue
        every.append(
            FoundFormula(
                candidate.formula.text,
                candidate.formula.latex,
                candidate.complexity,
                candidate.validation,
                text,
                candidate is found.best,
            )
        )
    return tuple(every)


def fit(rows: None, data: Dataset, hidden: Sequence[int], seed: int, report: Report) -> Kan:
    """A network of a table; interrupted, the best so far."""
    shape = [data.x.shape[1], *hidden, data.y.shape[1]]
    return train.fit(shape, data, seed=seed, progress=lambda now: report((str(now), now.share, now.loss, now.error)))


def export_format(rows: SessionData, kan: Kan, name: str, kind: str) -> Exported:
    """The files of one format, with the largest gap to the network and the microseconds of a row."""
    files, notes = check_files(kan, [kind], ExportOptions(name=name))
    own = {path.split("/", 1)[1]: data for path, data in files.items()}
    if kind not in names():
        return Exported(kind, own, None, None, "no backend here runs it")
    try:
        backend = get(kind).load(own)
    except KanserveError as error:
        return Exported(kind, own, None, None, notes.get(kind) or notes.get(f"{kind} not checked") or str(error))
    x, y = golden_rows(kan)
    got, finite = backend.predict(x.astype(backend.dtype)), np.isfinite(y).all(axis=1)
    size = np.maximum(np.abs(y[finite]).max(axis=0), np.finfo(float).tiny)
    gap = float((np.abs(got[finite] - y[finite]) / size).max())
    many = np.resize(x[finite], (_TIMED_ROWS, x.shape[1])).astype(backend.dtype)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        backend.predict(many)
        times.append(time.perf_counter() - begun)
    return Exported(kind, own, gap, min(times) / _TIMED_ROWS * 1e6)


def publish_network(
    rows: SessionData, kan: Kan, root: str, name: str, formats: Sequence[str], data: Dataset | None
) -> int:
    """Compile the network and publish it; its version."""
    try:
        artifact = compile(kan, formats, name=name, data=data)
    except ExportError as error:
        raise ExportError(f"{error} Publish with other formats, or undo the step that made it so.") from None
    except GoldenError as error:
        reason = str(error).removesuffix(" Compile the model again.")
        raise ExportError(
            f"{reason} Constants that are large and cancel are rounded so: see their table, and snap that edge to "
            "another function, or undo the step that made it so."
        ) from None
    return repository.publish(root, name, artifact)
