"""What the tests of first and of second derivatives in C share: how networks become a library, and functions."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanserve.network.export_options import Precision
from kanserve.network.expression import X
from kanserve.network.functions import FUNCTIONS, Function
from kanserve.network.kan import Kan, make_layer
from tests.support.c_builds import STRICT, run, written

DTYPES: dict[Precision, type[np.floating[Any]]] = {"double": np.float64, "float": np.float32}
# Where a plain spelling of a derivative gives 0·inf or inf/inf.
FAR_OUT_AND_CLOSE_IN = np.array([-900, -170, -30, -8, -1, -1e-3, 1e-3, 0.5, 1, 7.99, 8, 30, 170, 900.0])[:, None]


def library_of(folder: Path, kans: dict[str, Kan], *flags: str, **options: Any) -> ctypes.CDLL:
    """Networks with these options of `ExportOptions`, compiled without a warning and loaded."""
    for name, kan in kans.items():
        written(folder, kan, name, **options)
    sources = [f"{name}.c" for name in kans]
    run("gcc", *STRICT, "-O0", "-shared", "-fPIC", *flags, *sources, "-o", "all.so", "-lm", at=folder)
    return ctypes.CDLL(str(folder / "all.so"))


def each_function() -> dict[str, Kan]:
    """A network of each function that has all real numbers, or half of them, as its domain."""
    names = [name for name in FUNCTIONS if name not in ("arcsin", "arccos", "arctanh")]
    return {f"f{n}": Kan((make_layer(functions=[[name]]),)) for n, name in enumerate(names)}


def of_a_new_function(monkeypatch: pytest.MonkeyPatch) -> Kan:
    """A network of a function that is added to the table until the test's end."""
    row = Function("x*exp", X * np.exp(X), 3.0)
    monkeypatch.setitem(FUNCTIONS, row.name, row)
    return Kan((make_layer(functions=[[row.name]], affine=[[[2.0, 0.5, 3.0, 1.0]]]),))
