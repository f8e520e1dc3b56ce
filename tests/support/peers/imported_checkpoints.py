"""The checkpoints of other libraries in `tests/checkpoints`, and the networks that they become here.

They are held to what their library answered on the rows beside them: 1e-5 of the largest output where it computed in
float32, whose own roundings are some 1e-6 of it, and 1e-10 in double.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.importers import from_checkpoint
from kanserve.importers.conversion import Conversion
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from tests.support.paths import CHECKPOINTS

FOLDER = CHECKPOINTS
ANSWERS = "_answers.npz"
ALLOWED = {"float32": 1e-5, "float64": 1e-10}
PORTIONS = (0, 1, 2, 3)  # see `portion`


@dataclass(frozen=True, eq=False)
class Stored:
    """A checkpoint, rows x (N, inputs) and what its library answered, y (N, outputs), both in its precision."""

    library: str
    path: Path
    x: NDArray[Any]
    y: NDArray[Any]
    options: Mapping[str, Any]
    refused: str

    @property
    def allowed(self) -> float:
        return ALLOWED[self.y.dtype.name]


def stored(folder: Path = FOLDER) -> dict[str, Stored]:
    """All checkpoints of a folder by name, library first."""
    found = {}
    for file in sorted(folder.glob(f"*/*{ANSWERS}")):
        with np.load(file) as held:
            path, options = file.parent / str(held["source"]), json.loads(str(held["options"]))
            one = Stored(file.parent.name, path, held["x"], held["y"], options, str(held["refused"]))
        found[f"{one.library}/{file.name.removesuffix(ANSWERS)}"] = one
    return found


ALL = stored()
IMPORTED = tuple(name for name, one in ALL.items() if not one.refused)
# Networks like "fast_kan/normalised" and "fast_kan/trained", on knots that are several times closer: most of the time
# of a test of formulas. "fast_kan/fresh_double" and "fast_kan/other_grid_double" have knots as close.
FINER = ("fast_kan/normalised_double", "fast_kan/trained_double")


@cache
def conversion(name: str) -> Conversion:
    """What a stored checkpoint becomes, its library found out."""
    return from_checkpoint(ALL[name].path, **ALL[name].options)


def portion(which: int) -> dict[str, Kan]:
    """A quarter of the networks, by names that are good for files: what one test takes."""
    return {name.replace("/", "_"): conversion(name).kan for name in IMPORTED[which :: len(PORTIONS)]}


def difference(kan: Kan, one: Stored) -> float:
    """The largest difference from the library's answers, in parts of the largest one; ValueError for other NaN rows.

    A row of ours is NaN as a whole: of the library's some outputs may be finite.
    """
    got = evaluate(kan, one.x)
    fine, theirs = np.isfinite(got).all(axis=1), np.isfinite(one.y).all(axis=1)
    if (fine != theirs).any():
        raise ValueError(f"finite here and not there, or the other way round, at {one.x[fine != theirs][0].tolist()}")
    return float(np.abs(got[fine] - one.y[fine]).max() / np.abs(one.y[fine]).max())
