"""A session as plain data for a view: edges with names, functions and shares; losses; formulas."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from kanserve.editing import edge_constants
from kanserve.editing.editing_limits import EDITING
from kanserve.editing.html_page import html
from kanserve.editing.session_data import SessionData
from kanserve.errors import KanserveError
from kanserve.formula import formulas
from kanserve.network.edge_names import edge_names
from kanserve.network.evaluate import edges
from kanserve.network.importance import pushed_back
from kanserve.network.kan import Kan, Layer, Spline, Sum
from kanserve.simplification.activations import Array, signals, values
from kanserve.train import score


@dataclass(frozen=True)
class EdgeView:
    """An edge that is not zero; `place` is its layer, sum and input, from 0.

    `function` is "" for a free spline; `spline` says whether it has one, alone or beside a function. `constants` are
    a, b, c, d in the user's units (`edge_constants`), empty without a function. `share` is its share of the signal
    (`kanserve.network.importance`). `low` and `high` are the range of its input on the rows, in the user's units, and
    `curve` its values at evenly spaced points of that range, 33 unless asked for others; None where not finite.
    """

    name: str
    function: str
    spline: bool
    constants: tuple[float, ...]
    share: float
    low: float
    high: float
    curve: tuple[float | None, ...]
    place: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True)
class FormulaView:
    """An output as a formula, shortened if long, and its domain; or in `trouble` why there is none."""

    name: str
    text: str
    closed_form: bool
    domain: tuple[str, ...] = ()
    trouble: str = ""
    latex: str = ""


@dataclass(frozen=True)
class Done:
    """A step as its method call, and the network's edges and loss after it."""

    step: str
    edges: int
    loss: float


@dataclass(frozen=True)
class Snapshot:
    """The edges in the order of the layers, and the network's losses.

    `loss` is on the held-out rows (a mean squared error relative to the variances, or a classifier's cross-entropy),
    and so is `r2` of each output; `fit_loss` is the mean squared error on the training rows.
    """

    shape: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    edges: tuple[EdgeView, ...]
    loss: float
    fit_loss: float
    r2: tuple[float, ...]
    formulas: tuple[FormulaView, ...]
    history: tuple[Done, ...]
    undone: int

    def as_dict(self) -> dict[str, Any]:
        """The snapshot as dictionaries, lists, strings and numbers; a loss may be infinite."""
        return asdict(self)

    def _repr_html_(self) -> str:
        return html(self)


@np.errstate(all="ignore")
def snapshot(
    kan: Kan,
    rows: SessionData,
    history: tuple[Done, ...],
    undone: int,
    points: int = EDITING.snapshot_curve,
    most_edges: int | None = None,
    shares: tuple[Array, ...] | None = None,
) -> Snapshot:
    """The snapshot of a network, with all edges or the `most_edges` of the largest share."""
    return Snapshot(
        shape=kan.shape,
        inputs=tuple(variable.name for variable in kan.inputs),
        outputs=tuple(output.name for output in kan.outputs),
        edges=_edges(kan, rows, points, most_edges, shares_of(kan, rows.judge.x) if shares is None else shares),
        loss=rows.loss(kan),
        fit_loss=rows.error(kan) ** 2,
        r2=score(kan, rows.held).r2,
        formulas=_formulas(kan),
        history=history,
        undone=undone,
    )


def _edges(
    kan: Kan, rows: SessionData, points: int, most: int | None, shares: tuple[Array, ...]
) -> tuple[EdgeView, ...]:
    x = rows.judge.x
    alive = [(depth, j, i) for depth, layer in enumerate(kan.layers) for j, i in np.argwhere(layer.alive).tolist()]
    if most is not None and len(alive) > most:
        alive = sorted(sorted(alive, key=lambda place: -shares[place[0]][place[1:]])[:most])
    names = edge_names(kan)
    found = []
    for depth, (layer, v) in enumerate(zip(kan.layers, values(kan, x), strict=False)):
        v = v[np.isfinite(v).all(axis=1)]
        nowhere = np.zeros(layer.inputs)
        low, high = (v.min(axis=0), v.max(axis=0)) if len(v) else (nowhere, nowhere)
        u = np.linspace(low, high, points)
        own = [place for place in alive if place[0] == depth]
        if not own:
            continue
        columns = sorted({place[2] for place in own})
        given = edges(_of_inputs(layer, columns), u[:, columns])
        for place in own:
            _, j, i = place
            curve = given[:, j, columns.index(i)]
            found.append(_edge(names[place], layer, place, kan, u[:, i], curve, float(shares[depth][j, i])))
    return tuple(found)


def _of_inputs(layer: Layer, columns: list[int]) -> Layer:
    """The layer with only these inputs, whose edges are the same."""
    return replace(
        layer,
        knots=layer.knots[columns],
        coefficients=layer.coefficients[:, columns],
        base_weight=layer.base_weight[:, columns],
        functions=layer.functions[:, columns],
        affine=layer.affine[:, columns],
    )


def _edge(
    name: str, layer: Layer, place: tuple[int, int, int], kan: Kan, u: Array, given: Array, share: float
) -> EdgeView:
    own, units = edge_constants.shown(kan, place), edge_constants.units(kan, place)
    ends = u[[0, -1]] * units.scale + units.shift
    return EdgeView(
        name=name,
        function=own.function if own else "",
        spline=isinstance(layer.edge(*place[1:]), Spline | Sum),
        constants=(own.a, own.b, own.c, own.d) if own else (),
        share=share,
        low=float(ends.min()),
        high=float(ends.max()),
        curve=tuple(float(y) if np.isfinite(y) else None for y in (given if units.scale > 0 else given[::-1])),
        place=place,
    )


def shares_of(kan: Kan, x: Array) -> tuple[Array, ...]:
    """The share of each edge (O, I) on the rows, or on some of them for a large network; 0 if it is finite on none."""
    return pushed_back(kan, signals(kan, x).spreads).edges


def _formulas(kan: Kan) -> tuple[FormulaView, ...]:
    if kan.edges > EDITING.snapshot_formula_edges:
        trouble = f"A formula of {kan.edges:,} edges would fill pages; keep fewer edges first."
        return tuple(FormulaView(output.name, "", kan.symbolic, trouble=trouble) for output in kan.outputs)
    try:
        found = formulas(kan, limit=EDITING.snapshot_operations, strict=False)
        return tuple(
            FormulaView(view.name, view.text, view.closed_form, tuple(view.domain), latex=view.latex) for view in found
        )
    except KanserveError as error:  # not finite anywhere, or with splines that overflow
        return tuple(FormulaView(output.name, "", kan.symbolic, trouble=str(error)) for output in kan.outputs)
