"""A session as plain data for a view: edges with names, functions and shares; losses; formulas."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kanserve.editing import edge_constants
from kanserve.editing.html_page import html
from kanserve.editing.session_data import SessionData, of_numbers
from kanserve.errors import KanserveError
from kanserve.formula import formulas
from kanserve.network.edge_names import edge_names
from kanserve.network.evaluate import edges
from kanserve.network.kan import Kan, Layer, Spline, Sum
from kanserve.network.signal_shares import propagate_back
from kanserve.simplification.activations import Array, signals, values
from kanserve.simplification.edge_removal import with_inputs
from kanserve.train import score

SNAPSHOT_CURVE = 33  # points of an edge's curve
OPERATIONS = 200  # longer formulas are shortened
FORMULA_EDGES = 1000  # of a network with more edges no formula is written, which would take minutes


@dataclass(frozen=True)
class EdgeView:
    """An edge that is not zero.

    Parameters
    ----------
    name : str
        Such as "x->y".
    function : str
        The name of its function, "" for a free spline.
    spline : bool
        Whether it has a spline, alone or beside a function.
    constants : tuple of float
        a, b, c, d of c·f(a·x + b) + d in the user's units, empty without a function.
    share : float
        Its share of the signal.
    low, high : float
        The range of its input on the rows, in the user's units.
    curve : tuple of float or None
        Its values at evenly spaced points of that range, 33 unless asked for others; None where not finite.
    place : (int, int, int)
        Its layer, sum and input, from 0.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*sin(3*x) + 1", ranges={"x": (-1, 1)})
    >>> x = [[n / 10] for n in range(-10, 11)]
    >>> session = kanserve.Session(kan, (x, kan(x)))
    >>> session.snapshot().edges[0].name
    'x->y'
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
    """An output as a formula.

    Parameters
    ----------
    name : str
        The output.
    text, latex : str
        The formula, shortened if long.
    closed_form : bool
        Whether it has no splines.
    domain : tuple of str
        The conditions under which it is defined.
    trouble : str
        Why the formula is missing, else "".

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*sin(3*x) + 1", ranges={"x": (-1, 1)})
    >>> x = [[n / 10] for n in range(-10, 11)]
    >>> session = kanserve.Session(kan, (x, kan(x)))
    >>> session.snapshot().formulas[0].text
    '2*sin(3*x) + 1'
    """

    name: str
    text: str
    closed_form: bool
    domain: tuple[str, ...] = ()
    trouble: str = ""
    latex: str = ""


@dataclass(frozen=True)
class Done:
    """A step that is done.

    Parameters
    ----------
    step : str
        Its method call.
    edges : int
        The network's edges after it.
    loss : float
        The network's held-out loss after it.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*sin(3*x) + 1", ranges={"x": (-1, 1)})
    >>> x = [[n / 10] for n in range(-10, 11)]
    >>> session = kanserve.Session(kan, (x, kan(x)))
    >>> session.zero("x->y").history[0].step
    "zero('x->y')"
    """

    step: str
    edges: int
    loss: float


@dataclass(frozen=True)
class Snapshot:
    """A session as plain data, as `Session.snapshot` makes it.

    Parameters
    ----------
    shape : tuple of int
        The nodes of each layer, inputs first.
    inputs, outputs : tuple of str
        Their names.
    edges : tuple of EdgeView
        In the order of the layers.
    loss : float
        On the held-out rows: the mean squared error relative to the variances, or a classifier's cross-entropy.
    fit_loss : float
        The mean squared error on the training rows.
    r2 : tuple of float
        Of each output, on the held-out rows.
    formulas : tuple of FormulaView
        One for each output.
    history : tuple of Done
        The steps so far.
    undone : int
        Steps that can be redone.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*sin(3*x) + 1", ranges={"x": (-1, 1)})
    >>> x = [[n / 10] for n in range(-10, 11)]
    >>> session = kanserve.Session(kan, (x, kan(x)))
    >>> session.snapshot().shape
    (1, 1)
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
        """The snapshot as dictionaries, lists, strings and numbers.

        Returns
        -------
        dict
            By the names of the fields; a loss may be infinite, which JSON has not.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*sin(3*x) + 1", ranges={"x": (-1, 1)})
        >>> x = [[n / 10] for n in range(-10, 11)]
        >>> session = kanserve.Session(kan, (x, kan(x)))
        >>> session.snapshot().as_dict()["shape"]
        (1, 1)
        """
        return asdict(self)

    def _repr_html_(self) -> str:
        return html(self)


@np.errstate(all="ignore")
def snapshot(
    kan: Kan,
    rows: SessionData,
    history: tuple[Done, ...],
    undone: int,
    points: int = SNAPSHOT_CURVE,
    most_edges: int | None = None,
    shares: tuple[Array, ...] | None = None,
) -> Snapshot:
    """The snapshot of a network, with all edges, or the `most_edges` with the largest share."""
    kan = of_numbers(kan)
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
        given = edges(with_inputs(layer, columns), u[:, columns])
        for place in own:
            _, j, i = place
            curve = given[:, j, columns.index(i)]
            found.append(_edge(names[place], layer, place, kan, u[:, i], curve, float(shares[depth][j, i])))
    return tuple(found)


def _edge(
    name: str, layer: Layer, place: tuple[int, int, int], kan: Kan, u: Array, given: Array, share: float
) -> EdgeView:
    own, units = edge_constants.named_function(kan, place), edge_constants.units(kan, place)
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
    """The share of each edge (O, I) on the rows, or on a sample for a large network; 0 if it is finite on none."""
    return propagate_back(kan, signals(kan, x).spreads).edges


def _formulas(kan: Kan) -> tuple[FormulaView, ...]:
    if kan.edges > FORMULA_EDGES:
        trouble = f"A formula of {kan.edges:,} edges would fill pages. Keep fewer edges first."
        return tuple(FormulaView(output.name, "", kan.symbolic, trouble=trouble) for output in kan.outputs)
    try:
        found = formulas(kan, limit=OPERATIONS, strict=False)
        return tuple(
            FormulaView(view.name, view.text, view.closed_form, tuple(view.domain), latex=view.latex) for view in found
        )
    except KanserveError as error:  # not finite anywhere, or with splines that overflow
        return tuple(FormulaView(output.name, "", kan.symbolic, trouble=str(error)) for output in kan.outputs)
