"""A cost model of a layer of splines in onnxruntime, for each body that can compute it: measured, and fitted by

    µs per call = call + read·W + rows·(each·I + cells·C + products·W + copies·I·(k+1)·O)

W are the weights of the product, I·(G+k)·O, C the cells of the wide values, I·(G+k); both times the number of parts of
a bump if these are separate, and C times k + 1 if each basis function is a polynomial. `benchmarks/onnx_bodies.py`
measures, fits the constants, and reports how much worse than the best body the chosen one is on shapes outside the fit.
The constants are for float on one core (AMD EPYC with AVX-512) and a call of one layer; only their ratios matter, which
are similar elsewhere and in double.

A body must be fast for one row as well as for many. So the bodies are compared, at 1, 32 and 1024 rows, with PLAIN, the
graph that torch.onnx.export makes of the recursion for basis functions, and the body with the largest minimum speed-up
is taken. A table of every piece's polynomials is k + 1 times as large as one of the coefficients: where it would be a
large part of a file, polynomials must be that many times faster. Separate parts are for coarse grids only.
"""

from dataclasses import dataclass
from typing import Literal

How = Literal["bumps", "parts", "polynomials", "basis"]

ROWS = (1, 32, 1024)
LARGE = 2**20  # numbers in a table


@dataclass(frozen=True)
class Shape:
    """The size of a layer's splines: inputs with splines, columns of the product, intervals, order."""

    inputs: int
    columns: int
    intervals: int
    order: int

    def terms(self, how: How, rows: int) -> tuple[float, ...]:
        """The numbers that this form's constants are multiplied by, for a batch of `rows`; 0 for one that is not."""
        functions = self.inputs * (self.intervals + self.order)
        parts = self.order // 2 + 1
        cells = {"bumps": functions * parts, "parts": functions * parts, "basis": functions * (self.order + 1)}
        product = functions * self.columns * (parts if how == "parts" else 1) * (how != "polynomials")
        copied = self.inputs * (self.order + 1) * self.columns * (how == "polynomials")
        each = rows * self.inputs
        return (1.0, product, each, rows * cells.get(how, 0), rows * product, rows * copied)


CONSTANTS: dict[How, tuple[float, ...]] = {
    "bumps": (11.5, 6.75e-05, 0.00491, 0.00106, 2.28e-05, 0),
    "parts": (10.2, 5.18e-05, 0.00315, 0.00129, 1.96e-05, 0),
    "polynomials": (14.4, 0, 0.0428, 0, 0, 0.000242),
    "basis": (12.6, 5.25e-05, 0.0647, 0.000767, 1.67e-05, 0),
}

PLAIN = (20.0, 1e-4, 0.02)  # a call, each weight, each basis function in a row


def microseconds(shape: Shape, how: How, rows: int) -> float:
    """The predicted cost of a call."""
    return sum(a * b for a, b in zip(CONSTANTS[how], shape.terms(how, rows), strict=True))


def cheapest(shape: Shape, bumps: bool, fine: bool = False) -> How:
    """The fastest form for a layer. `bumps`: its grid allows them; `fine`: they need extra precision."""
    large = shape.inputs * (shape.intervals + 2) * (shape.order + 1) * shape.columns > LARGE
    ways: tuple[How, ...] = ("polynomials", "basis")
    if bumps:
        ways = ("bumps", *ways) if fine else ("bumps", "parts", *ways)
    cost: dict[How, float] = {}
    for how in ways:
        cost[how] = max(microseconds(shape, how, rows) / plain(shape, rows) for rows in ROWS)
        if how == "polynomials" and bumps and large:
            cost[how] *= shape.order + 1
    return min(cost, key=lambda how: cost[how])


def plain(shape: Shape, rows: int) -> float:
    """The predicted cost of a call of PLAIN, torch's graph."""
    cells = shape.inputs * (shape.intervals + shape.order)
    return sum(a * b for a, b in zip(PLAIN, (1, cells * shape.columns, rows * cells), strict=True))
