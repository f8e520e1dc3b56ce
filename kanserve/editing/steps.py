"""The steps of a session: frozen edits, each a deterministic `Kan -> Kan` on the session's rows. Edges are given by
their names in the step's input network (`kanserve.network.edge_names`), since pruning renumbers hidden nodes. Equal
steps on equal rows give equal networks, bit for bit, as far as `levenberg_marquardt.refine` does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

import numpy as np

from kanserve.editing import edge_constants
from kanserve.editing.edge_fits import EDGE_FITS_MOST_INTERVALS, closest, freed, points, require_alive
from kanserve.editing.session_data import SessionData, of_numbers, require_sound, restore_encoding
from kanserve.editing.step_fields import Tolerance, number, text, texts, to, tolerance, truth, whole_number
from kanserve.errors import InputError, NotFoundError
from kanserve.formula import from_formula
from kanserve.formula.expressions.formula import Formula
from kanserve.formula.printing.notations import Text
from kanserve.formula.printing.unfolding import print_tree, unfold
from kanserve.network.edge_names import EdgeIndex, edge_names, place_of
from kanserve.network.functions import function as row_of
from kanserve.network.kan import Kan, Symbolic, Variable
from kanserve.network.signal_shares import propagate_back
from kanserve.network.training_range import ranges
from kanserve.simplification import prune, symbolify
from kanserve.simplification.activations import Array, signals
from kanserve.simplification.edge_candidates import LIBRARY
from kanserve.simplification.edge_removal import empty, no_edges, without_edges
from kanserve.simplification.symbolic_edges import name_edges
from kanserve.simplification.validation import (
    VALIDATION_MOST_PARAMETERS,
    Judge,
    SimplifyReport,
    count_free_parameters,
    refit,
)

_LONGEST, _OPERATIONS = 30_000, 5_000


class _Exact(Text):
    """Prints numbers with the shortest digits that give the same double."""

    def number(self, value: float) -> str:
        return repr(value)


def exact_text(formula: Formula, names: Sequence[str]) -> str:
    """The formula in the grammar of `kanserve.from_formula`, without rounding; `names` are those of all columns."""
    text = print_tree(unfold(formula.tree, _OPERATIONS), _Exact(names), _LONGEST)
    if not formula.closed_form or text is None:
        raise InputError("Only a closed form of at most 30,000 characters can be taken as a step.")
    return text


def network_of(text: str, kan: Kan) -> Kan:
    """The network of a formula, with the variables of `kan`. Raises InputError, with the position, if not valid."""
    if len(kan.outputs) != 1 or kan.classes:
        raise InputError(f"A formula replaces a network of one output; this one has {len(kan.outputs)}.")
    names = [variable.name for variable in kan.inputs]
    spans = {name: (float(low), float(high)) for name, (low, high) in zip(names, ranges(kan), strict=True)}
    return replace(from_formula(text, inputs=names, ranges=spans), inputs=kan.inputs, outputs=kan.outputs)


STEPS_SHORT = 12  # iterations of the refit after a function replaces an edge
MOST_STEPS = 10_000  # steps of a refit
MOST_EDGES = 10_000_000  # edges that a network can be asked to keep

MOST_DIGITS = 17


class Step(Protocol):
    """One edit of a session: `apply` makes the edited network, the same for equal networks and rows.

    The methods of `Session` make steps; `kanserve.editing.KINDS` has the class of each by the method's name.

    Examples
    --------
    >>> from kanserve.editing import KINDS
    >>> KINDS["snap"](edge="x -> y", function="sin").function
    'sin'
    """

    def apply(self, kan: Kan, rows: SessionData) -> Kan: ...


@np.errstate(all="ignore")
def take(step: Step, kan: Kan, rows: SessionData) -> Kan:
    """Apply a step. Raises InputError if a function leaves its domain, or fewer rows are finite."""
    numbers = of_numbers(kan)
    return restore_encoding(require_sound(numbers, step.apply(numbers, rows), rows), kan)


@dataclass(frozen=True)
class Snap:
    """Replace an edge by the closest c·f(a·x + b) + d, then refit everything for `refit` iterations."""

    edge: str
    function: str
    refit: int = STEPS_SHORT

    def __post_init__(self) -> None:
        to(self, edge=text(self.edge, "edge"), function=text(self.function, "function"))
        to(self, refit=whole_number(self.refit, "refit", 0, MOST_STEPS))

    def apply(self, kan: Kan, rows: SessionData) -> Kan:
        row_of(self.function)
        place = place_of(kan, self.edge)
        found = points(kan, place, rows)
        fit = closest(found, self.function, rows.error(kan))
        if fit is None:
            raise InputError(
                f"No c·{self.function}(a·u + b) + d can stand for {self.edge}: on all that reaches the edge, "
                f"{found.low:.6g} to {found.high:.6g}, each would leave its domain or be a constant or a line."
            )
        return put_in(kan, place, fit.symbolic, rows.judge, self.refit)


def put_in(kan: Kan, place: EdgeIndex, symbolic: Symbolic, judge: Judge, steps: int) -> Kan:
    """Put a function on an edge, and refit unless the network has more than 1500 parameters."""
    changed = name_edges(kan, {place: symbolic})
    return refit(changed, judge, steps) if steps else changed


@dataclass(frozen=True)
class Free:
    """Replace a named function by a spline that equals it to a ten-thousandth, on at least `intervals` intervals."""

    edge: str
    intervals: int | None = None

    def __post_init__(self) -> None:
        to(self, edge=text(self.edge, "edge"))
        if self.intervals is not None:
            to(self, intervals=whole_number(self.intervals, "grid", 1, EDGE_FITS_MOST_INTERVALS))

    def apply(self, kan: Kan, rows: SessionData) -> Kan:
        return freed(kan, place_of(kan, self.edge), rows, self.intervals)


@dataclass(frozen=True)
class Zero:
    """Remove an edge and add its mean on the rows to the bias. Nodes stay, so names do not change; see `Prune`."""

    edge: str

    def __post_init__(self) -> None:
        to(self, edge=text(self.edge, "edge"))

    def apply(self, kan: Kan, rows: SessionData) -> Kan:
        depth, j, i = place = place_of(kan, self.edge)
        require_alive(kan, place)
        gone = no_edges(kan)
        gone[depth][j, i] = True
        return without_edges(kan, gone, rows.judge.learn.x)


@dataclass(frozen=True)
class Keep:
    """Keep the `edges` edges with the largest share of the signal, remove the others like `Zero`, smallest first, then
    refit everything for `refit` iterations."""

    edges: int
    refit: int = STEPS_SHORT

    def __post_init__(self) -> None:
        to(self, edges=whole_number(self.edges, "edges", 1, MOST_EDGES))
        to(self, refit=whole_number(self.refit, "refit", 0, MOST_STEPS))

    def apply(self, kan: Kan, rows: SessionData) -> Kan:
        fewer = keep_edges(kan, self.edges, rows.judge.learn.x)
        return refit(fewer, rows.judge, self.refit) if self.refit and fewer is not kan else fewer


@dataclass(frozen=True)
class Take:
    """Replace the whole network, which must have one output, by a formula of its inputs."""

    formula: str

    def __post_init__(self) -> None:
        to(self, formula=text(self.formula, "formula"))

    def apply(self, kan: Kan, rows: SessionData) -> Kan:
        return network_of(self.formula, kan)


@dataclass(frozen=True)
class SetConstant:
    """Set constants of a named function, in the user's units (`edge_constants`); the others stay."""

    edge: str
    a: float | None = None
    b: float | None = None
    c: float | None = None
    d: float | None = None

    def __post_init__(self) -> None:
        to(self, edge=text(self.edge, "edge"))
        for name in edge_constants.NAMES:
            if getattr(self, name) is not None:
                to(self, **{name: number(getattr(self, name), name)})
        if not self.set_constants:
            raise InputError(f"Say what to set of the constants of {self.edge}: a, b, c or d.")

    @property
    def set_constants(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in edge_constants.NAMES if getattr(self, name) is not None}

    def apply(self, kan: Kan, rows: SessionData) -> Kan:
        return edge_constants.with_constants(kan, place_of(kan, self.edge), self.set_constants)


@dataclass(frozen=True)
class RoundConstants:
    """Round the constants of named functions (in the user's units) to significant digits, on these edges or on all."""

    digits: int = 3
    edges: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        to(self, digits=whole_number(self.digits, "digits", 1, MOST_DIGITS), edges=texts(self.edges, "edges"))

    def apply(self, kan: Kan, rows: SessionData) -> Kan:
        named = [place for place in edge_names(kan) if kan.layers[place[0]].symbolic_mask[place[1:]]]
        for place in [place_of(kan, edge) for edge in self.edges] or named:
            symbolic = edge_constants.named_function(kan, place)
            values = {} if symbolic is None else {name: getattr(symbolic, name) for name in edge_constants.NAMES}
            rounded = {name: float(f"{value:.{self.digits}g}") for name, value in values.items()}
            kan = edge_constants.with_constants(kan, place, rounded)
        return kan


@dataclass(frozen=True)
class Rename:
    """Rename an input or an output; `of` says which if both have the old name."""

    old: str
    new: str
    of: str = ""

    def __post_init__(self) -> None:
        to(self, old=text(self.old, "old"), new=text(self.new, "new"), of=text(self.of, "of"))
        if self.of not in ("", "input", "output"):
            raise InputError(f"'of' is 'input' or 'output', got {self.of!r:.80}.")

    def apply(self, kan: Kan, rows: SessionData) -> Kan:
        sides = {"input": kan.inputs, "output": () if kan.classes else kan.outputs}
        found = [
            side for side in sides if self.of in ("", side) and self.old in [variable.name for variable in sides[side]]
        ]
        if len(found) > 1:
            raise InputError(f"An input and an output are called {self.old!r}: say of='input' or of='output'.")
        if not found:
            there = ", ".join(variable.name for side in sides for variable in sides[side])
            raise NotFoundError(f"Nothing to rename is called {self.old!r:.200}. There are: {there}.")
        changed = tuple(self._rename(side) for side in sides[found[0]])
        return replace(kan, inputs=changed) if found[0] == "input" else replace(kan, outputs=changed)

    def _rename(self, variable: Variable) -> Variable:
        return replace(variable, name=self.new) if variable.name == self.old else variable


@dataclass(frozen=True)
class Refit:
    """Fit all parameters to the training rows, from their present values."""

    steps: int = 100
    smooth: float = 0.0

    def __post_init__(self) -> None:
        to(
            self,
            steps=whole_number(self.steps, "steps", 1, MOST_STEPS),
            smooth=number(self.smooth, "smooth", 0.0),
        )

    def apply(self, kan: Kan, rows: SessionData) -> Kan:
        most, count = VALIDATION_MOST_PARAMETERS, count_free_parameters(kan)
        if count > most:
            raise InputError(f"A refit takes {most} parameters at most, this network has {count}. Prune it.")
        return refit(kan, replace(rows.judge, smooth=self.smooth), self.steps)


@dataclass(frozen=True)
class Prune:
    """Apply `kanserve.prune`: remove edges and nodes that the data do not need."""

    tolerance: Tolerance = "auto"

    def __post_init__(self) -> None:
        to(self, tolerance=tolerance(self.tolerance))

    def apply(self, kan: Kan, rows: SessionData, report: SimplifyReport | None = None) -> Kan:
        return prune(kan, rows.data, tolerance=self.tolerance, seed=rows.seed, progress=report or False)


@dataclass(frozen=True)
class Symbolify:
    """Apply `kanserve.symbolify`: replace edges by named functions, as far as the data allow."""

    functions: tuple[str, ...] = ()
    all_edges: bool = False
    tolerance: Tolerance = "auto"

    def __post_init__(self) -> None:
        to(self, functions=texts(self.functions, "functions"), all_edges=truth(self.all_edges, "all_edges"))
        to(self, tolerance=tolerance(self.tolerance))

    def apply(self, kan: Kan, rows: SessionData, report: SimplifyReport | None = None) -> Kan:
        for name in self.functions:
            row_of(name)
        chosen = self.functions or LIBRARY
        return symbolify(
            kan,
            rows.data,
            functions=chosen,
            all_edges=self.all_edges,
            tolerance=self.tolerance,
            seed=rows.seed,
            progress=report or False,
        )


KINDS: Mapping[str, type[Step]] = MappingProxyType(
    {
        "snap": Snap,
        "free": Free,
        "zero": Zero,
        "keep": Keep,
        "take": Take,
        "set": SetConstant,
        "round": RoundConstants,
        "rename": Rename,
        "refit": Refit,
        "prune": Prune,
        "symbolify": Symbolify,
    }
)
"""The class of a step by the name of its `Session` method, which takes the step's fields as arguments."""
KIND_OF = {made: kind for kind, made in KINDS.items()}


_AT_ONCE = 0.05  # of the edges that are to go: the shares are measured anew after each such part


def keep_edges(kan: Kan, count: int, x: Array) -> Kan:
    """Keep at most `count` edges, by their shares on rows x (N, inputs), and replace the others by their means. Shares
    are measured again as edges go, so that edges that nothing reads any more go first. Nodes stay, so names do not
    change."""
    while (surplus := kan.edges - count) > 0:
        seen = signals(kan, x)
        gone, shares = no_edges(kan), propagate_back(kan, seen.spreads).edges
        places = [(depth, *place) for depth, layer in enumerate(kan.layers) for place in np.argwhere(layer.alive)]
        order = np.argsort([shares[depth][j, i] for depth, j, i in places], kind="stable")
        for n in order[: max(1, min(surplus, int(_AT_ONCE * len(places))))]:
            depth, j, i = places[n]
            gone[depth][j, i] = True
        kan = empty(kan, gone, seen.means)
    return kan
