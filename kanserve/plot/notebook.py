"""The HTML that notebooks show for networks, data, formulas, findings and artifacts: formulas first, then pictures."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.near_names import first_names
from kanserve.errors import KanserveError
from kanserve.formula import Formula, formulas
from kanserve.network.kan import Kan, Variable
from kanserve.plot.heat_map_layout import heat_maps
from kanserve.plot.matrix_layout import matrix
from kanserve.plot.network_picture import flows, scene_of
from kanserve.plot.network_view import NetworkView
from kanserve.plot.page import Html, code, cut, fold, formula, formula_list, histogram, page, picture, table, text
from kanserve.plot.scene import Scene, number

Array = NDArray[np.float64]

WIDTH = 760.0
TABLE_EDGES = 120  # of a matrix
TILES = (24, 12, 4, 0)  # under heat maps, as many as there is room for
CELLS = (196, 48)  # of a heat map
PICTURE_BYTES = 40_000
FORMULA_EDGES = 300  # of a network whose formulas are shown
OPERATIONS = 200  # of a formula
COLUMNS = 20
ROWS = 20_000  # of which a distribution is drawn
NAMES = 12
FILES = 12


def network_page(kan: Kan, most: int = PICTURE_BYTES) -> str:
    """The page of a network: its formulas, its picture of at most `most` bytes, its shape and its variables."""
    return page(
        network_formulas(kan),
        network_part(kan, most=most),
        fold("inputs and outputs", variables(kan.inputs, kan.outputs)),
    )


def network_formulas(kan: Kan) -> Html:
    """The formulas of a network that is not too large, or a sentence that says why there are none."""
    if kan.edges > FORMULA_EDGES:
        return Html("")
    try:
        found = formulas(kan, limit=OPERATIONS, strict=False)
    except KanserveError as error:
        return text(cut(str(error), 500), second=True)
    return Html(formula_list((law.name, law.latex, law.text) for law in found) + definitions(found))


def definitions(found: Iterable[Formula]) -> Html:
    """The definitions of categorical inputs, and of those that may be missing."""
    lines = list(dict.fromkeys(line for law in found for line in law.definitions))
    return Html("".join(text("where " + cut(line, 300), second=True) for line in lines[:NAMES]))


def network_part(kan: Kan, data: ArrayLike | None = None, most: int = PICTURE_BYTES) -> Html:
    """The facts and the picture of a network, of at most `most` bytes; a sentence if it is finite nowhere."""
    shape = "-".join(map(str, kan.shape))
    kinds = sum(int((layer.symbolic_mask & ~layer.spline_mask).sum()) for layer in kan.layers)
    facts = f"Kan {shape}: {kan.edges:,} edges, {kinds:,} snapped to a function"
    if kan.classes:
        facts += f", {len(kan.classes)} classes"
    try:
        view = NetworkView(kan, data)
    except KanserveError as error:
        return Html(text(facts, second=True) + text(cut(str(error), 500)))
    drawn = Html("")
    for scene in _scenes(view):
        drawn = picture(scene)
        if len(drawn.encode()) <= most:
            break
    return Html(text(facts, second=True) + drawn)


def _scenes(view: NetworkView) -> Iterator[Scene]:
    """Pictures of a network, the most informative first, then smaller ones."""
    if flows(view.kan):
        yield scene_of(view, "flow", WIDTH)
    if sum(layer.subnodes * layer.inputs for layer in view.kan.layers) <= TABLE_EDGES:
        yield matrix(view, 1.3 * WIDTH)
    for tiles in TILES:
        yield heat_maps(view, WIDTH, tiles, CELLS)


def variables(inputs: Sequence[Variable], outputs: Sequence[Variable] = ()) -> Html:
    """A table of names, units and training ranges."""
    rows = [("input", variable) for variable in inputs] + [("output", variable) for variable in outputs]
    kept = rows[:COLUMNS] + rows[max(COLUMNS, len(inputs)) :][:NAMES]
    shown = table(
        ("", "name", "unit", "from", "to"),
        [
            (kind, cut(variable.name, 60), cut(variable.unit, 24), _end(variable.low), _end(variable.high))
            for kind, variable in kept
        ],
        numbers=(3, 4),
    )
    rest = len(rows) - len(kept)
    return Html(shown + (text(f"and {rest:,} more", second=True) if rest > 0 else ""))


def dataset_page(data: Dataset) -> str:
    """The page of a data set: the number of rows, and each column's range and distribution, targets first."""
    facts = f"Dataset: {len(data):,} rows, {len(data.inputs):,} inputs, outputs {_list(data.outputs)}"
    if data.weights is not None:
        facts += ", weighted"
    picked = np.unique(np.linspace(0, len(data) - 1, min(ROWS, len(data))).astype(int))
    rows = []
    for kind, names, values in (("output", data.outputs, data.y), ("input", data.inputs, data.x)):
        for column, name in enumerate(names[:COLUMNS]):
            own = np.asarray(values[picked, column])
            finite = own[np.isfinite(own)]
            rows.append(_column(kind, name, finite, len(own) - len(finite)))
    shown = table(("", "name", "least", "median", "largest", "distribution"), rows, numbers=(2, 3, 4))
    total = len(data.inputs) + len(data.outputs)
    rest = text(f"showing {len(rows)} of {total:,} columns", second=True) if len(rows) < total else ""
    drawn = text(f"from {len(picked):,} rows", second=True) if len(picked) < len(data) else ""
    return page(text(facts), shown, rest, drawn)


def formula_page(shown: Formula) -> str:
    """The page of a formula: typeset, with its conditions, variables and Python code."""
    parts = [formula(shown.name, shown.latex, shown.text), definitions([shown])]
    if shown.shortened:
        parts.append(text("shortened: the tree is complete", second=True))
    if shown.domain:
        parts.append(text("defined where " + cut("; ".join(shown.domain), 500), second=True))
    if shown.variables:
        parts.append(fold("variables", variables(shown.variables)))
    if shown.python:
        parts.append(fold("Python", code(shown.python)))
    return page(*parts)


def score_page(found: Any) -> str:
    """The page of a score (`kanserve.train.Score`): R² and error of each output, and a classifier's accuracy."""
    rows = [
        ("" if len(found.r2) == 1 else str(n), _figure(r2), _figure(rmse))
        for n, (r2, rmse) in enumerate(zip(found.r2, found.rmse, strict=True), start=1)
    ]
    accuracy = "" if found.accuracy is None else f"accuracy {_figure(found.accuracy)}"
    return page(text(accuracy) if accuracy else "", table(("output", "R²", "RMSE"), rows, numbers=(1, 2)))


def artifact_page(manifest: Any, files: Mapping[str, bytes], kan: Kan) -> str:
    """The page of an artifact, by its `kanserve.artifact.manifest.Manifest`: formulas, network, metrics, files."""
    size = sum(len(data) for data in files.values())
    facts = f"Artifact {cut(manifest.name, 100)}: {len(files)} files, {size / 1000:,.0f} kB, {manifest.precision}"
    parts = [text(facts), network_formulas(kan), network_part(kan)]
    if manifest.metrics is not None:
        found = manifest.metrics
        rows = [
            (cut(output.name, 60), *(_figure(value) for value in values))
            for output, *values in zip(manifest.outputs, found.r2, found.rmse, found.max_error, strict=True)
        ]
        titles = (f"on {found.rows:,} rows", "R²", "RMSE", "largest error")
        parts.append(table(titles, rows[:NAMES], numbers=(1, 2, 3)))
    listed = [(cut(path, 80), f"{len(data):,}") for path, data in sorted(files.items())]
    parts.append(fold("files", table(("file", "bytes"), listed[:FILES], numbers=(1,))))
    return page(*parts)


def _column(kind: str, name: str, values: Array, missing: int) -> tuple[str, ...]:
    if not len(values):
        return kind, cut(name, 60), "", "", "", "all missing"
    ends = (values.min(), float(np.median(values)), values.max())
    drawn = histogram(values, name)
    return (
        kind,
        cut(name, 60),
        *(number(float(value)) for value in ends),
        drawn if not missing else Html(drawn + text(f"{missing:,} missing", second=True)),
    )


def _list(names: Sequence[str]) -> str:
    return first_names([cut(name, 40) for name in names], NAMES, ", …")


def _end(value: float) -> str:
    return number(value) if np.isfinite(value) else ""


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
