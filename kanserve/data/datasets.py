"""Data sets that come with the package: small, real, and described in README.md beside them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError

KNOT_INVARIANTS = (
    "chern_simons",
    "cusp_volume",
    "hyperbolic_torsion_degree",
    "injectivity_radius",
    "longitudinal_translation",
    "meridinal_translation_imag",
    "meridinal_translation_real",
    "short_geodesic_imag_part",
    "short_geodesic_real_part",
    "Symmetry_0",
    "Symmetry_D3",
    "Symmetry_D4",
    "Symmetry_D6",
    "Symmetry_D8",
    "Symmetry_Z/2 + Z/2",
    "volume",
)
"""Hyperbolic invariants of a knot, usable as inputs. Every other column is an answer or a label."""


def load_knots(target: str = "signature", inputs: Sequence[str] = KNOT_INVARIANTS) -> Dataset:
    """1118 distinct hyperbolic knots: the hyperbolic invariants (N, 16), and the `target` to learn (N, 1).

    Parameters
    ----------
    target : str, default="signature"
        A column of numbers.
    inputs : sequence of str, default=KNOT_INVARIANTS
        The columns that are inputs.

    Returns
    -------
    Dataset
        With the names of the columns.

    Raises
    ------
    DataError
        The column does not exist or holds no numbers, or the target is an input.

    Examples
    --------
    >>> from kanserve.data.datasets import load_knots
    >>> load_knots().x.shape
    (1118, 16)
    """
    columns = _columns("knots")
    for name in (target, *inputs):
        if name not in columns:
            raise DataError(f"The knots have no column {name!r}. Their columns: {', '.join(columns)}.")
        if name == "name" or "" in columns[name]:
            raise DataError(f"Column {name!r} of the knots holds no numbers; choose another.")
    if target in inputs:
        raise DataError(f"Column {target!r} is both an input and the target.")
    x = np.array([columns[name] for name in inputs], np.float64).T
    return Dataset(x, np.array(columns[target], np.float64), tuple(inputs), (target,))


def knot_names() -> tuple[str, ...]:
    """The name of each knot, in the order of the rows of `load_knots`: K5a1 has 5 crossings and is alternating.

    Returns
    -------
    tuple of str
        1118 names.

    Examples
    --------
    >>> from kanserve.data.datasets import knot_names
    >>> len(knot_names())
    1118
    """
    return _columns("knots")["name"]


@dataclass(frozen=True)
class Equation:
    """A law as text for `kanserve.from_formula`.

    Parameters
    ----------
    name : str
        Its number or name in the table.
    formula : str
        In the names of the inputs.
    ranges : mapping of str to (float, float)
        The lowest and highest value of each input, in order.

    Examples
    --------
    >>> import kanserve
    >>> from kanserve.data.datasets import load_equations
    >>> law = load_equations()[0]
    >>> kanserve.from_formula(law.formula, ranges=law.ranges).formula().variables[0].name
    't'
    """

    name: str
    formula: str
    ranges: Mapping[str, tuple[float, float]]


def load_equations(
    table: Literal["feynman", "feynman_dimensional", "sciences", "field_suites", "one_input", "additive"] = "feynman",
) -> tuple[Equation, ...]:
    """Laws of physics: 30 in dimensionless form with 2 to 4 inputs, or 62 in physical quantities with 1 to 6; 40
    laws of other fields with 1 to 6; 72 of the suites that the field judges searches by, with 1 to 5; 40 plain laws of
    one input; or 30 sums of functions of one input each, with 3 to 6.

    Parameters
    ----------
    table : {"feynman", "feynman_dimensional", "sciences", "field_suites", "one_input", "additive"}, default="feynman"
        Which of them, in the order above.

    Returns
    -------
    tuple of Equation
        Each with its name, its formula and the ranges of its inputs.

    Examples
    --------
    >>> from kanserve.data.datasets import load_equations
    >>> len(load_equations())
    30
    """
    columns = _columns(table)
    rows = zip(columns["id"], columns["formula"], columns["ranges"], strict=True)
    return tuple(Equation(name, formula, _ranges(ranges)) for name, formula, ranges in rows)


def _ranges(text: str) -> dict[str, tuple[float, float]]:
    """Parse ranges such as "x:0:1 y:2:3"."""
    fields = (word.split(":") for word in text.split())
    return {name: (float(low), float(high)) for name, low, high in fields}


def _columns(table: str) -> dict[str, tuple[str, ...]]:
    text = files("kanserve.data").joinpath(f"{table}.csv").read_text("utf-8")
    header, *rows = csv.reader(text.splitlines())
    return dict(zip(header, zip(*rows, strict=True), strict=True))
