"""Compare an imported network with the library that trained it, if installed: the largest difference."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import CheckpointError, KanserveError, reason
from kanserve.importers import reference_libraries
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.network.evaluate import as_rows, evaluate
from kanserve.network.kan import Kan

Array = NDArray[np.float64]

SINGLE, DOUBLE = 1e-5, 1e-10  # the largest allowed difference where the library computes in float32, and in float64
_RANDOM = 1000
_MOST_EDGE_ROWS = 1000
_NUMBERS = 1 << 24  # values of edges at a time
_ROUNDINGS = 16  # roundings between an input and an output that a library may do


@dataclass(frozen=True)
class Agreement:
    """How closely a network agrees with its library. `difference`: the largest of any output, relative to the largest
    output among rows of the same kind (`random` or `edge`). `only_one`: rows on which only one is finite. `unsteady`:
    rows left out because rounding near a pole or jump explains the difference."""

    library: str
    version: str
    difference: float
    bound: float
    random: int
    edge: int
    only_one: int
    unsteady: int

    @property
    def agrees(self) -> bool:
        return self.difference <= self.bound

    def __str__(self) -> str:
        where = f"on {self.random} random and {self.edge} edge rows"
        return f"{self.difference:.2g} of the largest output {where}, beside {self.library} {self.version}"


def compare(
    checkpoint: Checkpoint, conversion: Conversion, options: Options | None = None, rows: ArrayLike | None = None
) -> Agreement:
    """Compare a converted network with the library of its checkpoint, on random and edge rows. Raises
    MissingDependencyError if the library is not installed, CheckpointError if it cannot run the checkpoint."""
    options, kan = options or Options(), conversion.kan
    single = checkpoint.single
    random = random_rows(kan) if rows is None else as_rows(kan, rows)
    kinds = [random, edge_rows(kan, single)]
    if single:  # so that both get the same inputs
        kinds = [kind.astype(np.float32).astype(np.float64) for kind in kinds]
    with _quietly(conversion.library):
        run, version = reference_libraries.runner(checkpoint, conversion, options)
        answers = [np.asarray(run(kind), np.float64).reshape(len(kind), -1) for kind in kinds]
    bound = difference_bound(conversion, single, options)
    return _agreement(conversion, version, kinds, answers, single, bound)


def require(found: Agreement) -> Agreement:
    """Return the agreement. Raises CheckpointError, with the figure, if the difference exceeds the bound."""
    if not found.agrees:
        raise CheckpointError(
            f"The network differs from what it was made of by {found}; at most {found.bound:.2g} is rounding."
            " Please report this with the checkpoint."
        )
    return found


def difference_bound(conversion: Conversion, single: bool, options: Options) -> float:
    """The largest allowed difference: rounding, plus the tolerance if edges were refitted."""
    rounding = SINGLE if single else DOUBLE
    return rounding + options.tolerance if conversion.refitted else rounding


def random_rows(kan: Kan) -> Array:
    """Random rows inside the first layer's grid, and up to a quarter of its width outside."""
    low, high = _spans(kan)
    room = 0.25 * (high - low)
    return np.random.default_rng(0).uniform(low - room, high + room, (_RANDOM, len(low)))


def edge_rows(kan: Kan, single: bool = False) -> Array:
    """Rows on the first layer's knots, on the adjacent floats, and a whole width outside the grid."""
    rng = np.random.default_rng(1)
    kind: Any = np.float32 if single else np.float64
    first = kan.layers[0]
    # A column for each input: its knots. All inputs of a layer have equally many.
    knots = first.knots.T.astype(kind)
    beside = [np.nextafter(knots, kind(sign * np.inf)) for sign in (-1, 1)]
    low, high = (span.astype(kind) for span in _spans(kan))
    outside = np.stack([low - (high - low), high + (high - low), np.zeros_like(low)])
    together = np.concatenate([knots, *beside, outside]).astype(np.float64)
    count = min(_MOST_EDGE_ROWS, 10 * len(together))
    # Also rows in which each input is on a different knot.
    mixed = together[rng.integers(len(together), size=(count, together.shape[1])), np.arange(together.shape[1])]
    return np.concatenate([together, mixed])


def _spans(kan: Kan) -> tuple[Array, Array]:
    first = kan.layers[0]
    return first.knots[:, first.order].copy(), first.knots[:, -first.order - 1].copy()


def _agreement(
    conversion: Conversion, version: str, kinds: list[Array], answers: list[Array], single: bool, bound: float
) -> Agreement:
    kan, library = conversion.kan, conversion.library
    difference, only_one, unsteady, compared = 0.0, 0, 0, []
    for rows, theirs in zip(kinds, answers, strict=True):
        ours = _evaluate(kan, rows)
        if theirs.shape != ours.shape:
            raise CheckpointError(f"{library} gives answers of shape {theirs.shape}, the network {ours.shape}.")
        finite = np.stack([np.isfinite(array).all(axis=1) for array in (ours, theirs)])
        only_one += int((finite[0] != finite[1]).sum())
        rows, ours, theirs = (array[finite.all(axis=0)] for array in (rows, ours, theirs))
        rounding = _rounding(kan, rows, ours, theirs, single, bound)
        unsteady += int(rounding.sum())
        compared.append(int((~rounding).sum()))
        if compared[-1]:
            largest = float(np.abs(theirs[~rounding]).max())
            apart = float(np.abs(ours - theirs)[~rounding].max())
            difference = max(difference, apart / largest if largest else apart)
    if not any(compared):
        raise CheckpointError(f"In no row do {library} and the network both give finite, steady numbers.")
    random, edge = compared
    return Agreement(library, version, difference, bound, random, edge, only_one, unsteady)


def _evaluate(kan: Kan, rows: Array) -> Array:
    """The reference evaluation, in blocks of rows so that a wide network's edges fit in memory."""
    most = max(1, _NUMBERS // max(layer.subnodes * layer.inputs for layer in kan.layers))
    return np.concatenate([evaluate(kan, rows[n : n + most]) for n in range(0, max(len(rows), 1), most)])


def _rounding(kan: Kan, rows: Array, ours: Array, theirs: Array, single: bool, bound: float) -> NDArray[np.bool_]:
    """Mask (N,) of the rows that differ by more than the bound, although rounding the inputs has as large an effect."""
    low, high = _spans(kan)
    step = float(np.finfo(np.float32 if single else np.float64).eps) * np.maximum(np.abs(rows), (high - low) / 2)
    # All inputs to one side, and neighbours to opposite ones: a LayerNorm cancels the former.
    ways = (sign * way for sign in (-1, 1) for way in (np.ones(rows.shape[1]), (-1.0) ** np.arange(rows.shape[1])))
    moved = np.max([np.abs(_evaluate(kan, rows + way * step) - ours).max(axis=1) for way in ways], axis=0)
    apart, sizes = np.abs(ours - theirs).max(axis=1), np.abs(ours).max(axis=1)
    # Not the largest, which may lie next to a pole.
    usual = float(np.quantile(sizes, 0.9)) if len(sizes) else 0.0
    result: NDArray[np.bool_] = (apart > bound * np.maximum(sizes, usual)) & ~(apart > _ROUNDINGS * moved)
    return result


@contextlib.contextmanager
def _quietly(library: str) -> Iterator[None]:
    """Silence the library's prints and warnings, and convert its exceptions to CheckpointError."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except KanserveError:
            raise
        except Exception as error:  # another library may raise anything
            why = f"{type(error).__name__}: {reason(error)}"
            raise CheckpointError(f"{library} itself cannot run this checkpoint: {why}.") from None
