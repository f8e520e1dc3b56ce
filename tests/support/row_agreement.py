"""Whether what an exporter made gives what the reference gives, row by row: `assert_held`.

Each output may be as far from the reference as `rounding_error.allow` says, with a part of 1e-12 in double and 1e-5
in float. Rows in which the reference is NaN must be NaN in all outputs, and no others, but where rounding decides: at
the very end of a domain, next to overflow, where a sum of large terms cancels. That is not left to judgement. It is so
where the reference itself, with constants and row moved by as much as an evaluation may round them, or in plain
float32, is finite on the one side and NaN on the other. A row that holds NaN or infinity is NaN without exception.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import Precision
from kanserve.network.kan import Kan
from kanserve.network.rounding_error import rounding, scale
from kanserve.runtime.backend import Backend
from tests.support.agreement import eager_float32
from tests.support.networks.random_networks import rows

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]

PART = {"double": 1e-12, "float": 1e-5}
TYPES: dict[Precision, type[np.floating]] = {"double": np.float64, "float": np.float32}
_MOVED = {"double": 2.0**-47, "float": 2.0**-18}  # 64 roundings, the margin of `rounding_error.allow`
_DRAWS = 8


def in_type(x: Array, precision: Precision) -> Array:
    """The rows as a program of this precision gets them: what float cannot hold is infinite."""
    with np.errstate(all="ignore"):
        return x.astype(TYPES[precision]).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Truth:
    """What a network gives at rows x (N, inputs), and how sure that is; what takes long is computed when asked for."""

    kan: Kan
    x: Array
    precision: Precision

    @cached_property
    def want(self) -> Array:
        """(N, outputs) of the reference."""
        return evaluate(self.kan, self.x)

    @cached_property
    def allowed(self) -> Array:
        """How far each output may be from the reference; where rounding may break a row altogether no digit is sure."""
        change = 64 * rounding(self.kan, self.x, self.precision)
        return np.maximum(PART[self.precision] * scale(self.want), np.where(np.isfinite(change), change, np.inf))

    @cached_property
    def uncertain(self) -> Rows:
        """(N,): in which rows rounding decides whether the network is finite."""
        moved = _moved(self.kan, self.x, _MOVED[self.precision])
        fine = [np.isfinite(evaluate(network, near)).all(axis=1) for network, near in moved]
        if self.precision == "float":
            fine.append(np.isfinite(eager_float32(self.kan, self.x)).all(axis=1))
        # `rounding` also moves the values on the way, and knows where a float overflows; it is NaN where one breaks.
        steady = np.isfinite(rounding(self.kan, self.x, self.precision)).all(axis=1)
        some, every = np.any(fine, axis=0), np.all([*fine, steady | ~np.isfinite(self.want).all(axis=1)], axis=0)
        result: Rows = some & ~every & np.isfinite(self.x).all(axis=1)
        return result

    def wrong(self, got: NDArray[np.floating]) -> Rows:
        """(N,): the rows in which got is further from it than rounding explains, or is half NaN, or infinite."""
        fine, there = np.isfinite(self.want).all(axis=1), np.isfinite(got).all(axis=1)
        wrong: Rows = ~there & ~np.isnan(got).all(axis=1)
        different = fine != there
        if different.any():
            wrong |= different & ~self.uncertain
        both = fine & there
        with np.errstate(all="ignore"):
            error = np.abs(got - self.want)
            far = both & ~(error <= PART[self.precision] * scale(self.want)).all(axis=1)
            if far.any():
                wrong |= far & ~(error <= self.allowed).all(axis=1)
        return wrong


@lru_cache(maxsize=64)  # of what one test asks for again: several builds, many rows at once and one
def _truth(kan: Kan, x: bytes, precision: Precision) -> Truth:
    return Truth(kan, np.frombuffer(x).reshape(-1, len(kan.inputs)), precision)


def assert_held(kan: Kan, x: Array, got: NDArray[np.floating], precision: Precision, what: str) -> None:
    """Fail, with the first wrong row, unless got (N, outputs) is what the network gives at x (N, inputs)."""
    truth = _truth(kan, x.tobytes(), precision)
    want = truth.want
    assert got.shape == want.shape, f"{what}: shape {got.shape}, wanted {want.shape}"
    wrong = truth.wrong(got)
    if wrong.any():
        n = int(np.flatnonzero(wrong)[0])
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {len(x)} rows are wrong, the first at {x[n].tolist()}:\n"
            f"wanted {want[n].tolist()}\ngot    {got[n].tolist()}\n± {truth.allowed[n].tolist()}"
        )


def assert_backend_held(backend: Backend, kan: Kan, precision: Precision, what: str) -> None:
    """The same of a backend, for many rows at once and for every seventh alone."""
    x = in_type(rows(kan), precision)
    given = x.astype(TYPES[precision])
    got = backend.predict(given)
    assert got.dtype == TYPES[precision]
    assert_held(kan, x, got, precision, what)
    alone = np.concatenate([backend.predict(given[n : n + 1]) for n in range(0, len(x), 7)])
    assert_held(kan, x[::7], alone, precision, f"{what}, one by one")


def _moved(kan: Kan, x: Array, part: float) -> Iterator[tuple[Kan, Array]]:
    """The network and the rows, then both with each number moved by up to this part of itself, a few times."""
    yield kan, x
    for draw in range(_DRAWS):
        rng = np.random.default_rng(draw)

        def near(values: Array, rng: np.random.Generator = rng) -> Array:
            with np.errstate(all="ignore"):
                result: Array = values * (1 + rng.uniform(-part, part, values.shape))
            return result

        names = ("coefficients", "base_weight", "affine", "subnode_scale", "subnode_bias", "node_scale", "node_bias")
        layers = []
        for layer in kan.layers:
            tables: dict[str, Any] = {name: near(getattr(layer, name)) for name in names}
            layers.append(replace(layer, **tables))
        ends = ("input_shift", "input_scale", "output_shift", "output_scale")
        affine: dict[str, Any] = {name: near(getattr(kan, name)) for name in ends}
        yield replace(kan, layers=tuple(layers), **affine), near(x)
