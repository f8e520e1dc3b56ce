"""The result columns of a batch, computed from input columns."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.artifact.format import Artifact
from kanserve.errors import DataError
from kanserve.network.conformal_intervals import ConformalInterval, interval_of
from kanserve.network.encoding import is_outside
from kanserve.network.evaluate import jacobian, softmax
from kanserve.network.training_range import find_unused_inputs, ranges
from kanserve.runtime.backend import Backend, Differentiating

Column = NDArray[Any]

_VALUES = 2**14  # inputs of a block: 128 KiB of rows, which stay in the second-level cache until they are computed
_ROWS = 64  # at least, so that a call from Python costs little beside a block


@dataclass(frozen=True)
class ResultOptions:
    """Which columns a result has in addition to the outputs, or to the class and probabilities of a classifier."""

    outside: bool = False
    gradient: bool = False
    prefix: str = ""
    interval: float | None = None  # the level of prediction intervals


@dataclass(frozen=True)
class BatchModel:
    """A model with its backend, as it runs in one process."""

    artifact: Artifact
    name: str  # of the backend
    backend: Backend

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        return tuple(variable.name for variable in self.artifact.manifest.inputs)

    @cached_property
    def limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The training range: the lowest and highest value of each input."""
        low, high = ranges(self.artifact.kan()).T
        return low, high

    @cached_property
    def absent(self) -> Mapping[str, float]:
        """The inputs that no output depends on, which a table may lack, each with a value in the range."""
        return find_unused_inputs(self.artifact.kan())

    def check_inputs(self, names: Sequence[str], table: str = "The table") -> None:
        """Raise DataError if a table with these columns lacks an input, or has one twice."""
        for name in self.inputs:
            if name in names or name in self.absent:
                continue
            near = get_close_matches(name, names, 1)
            hint = f" Is it {near[0]!r}?" if near else ""
            raise DataError(
                f"{table} lacks the column {name!r}, an input of the model.{hint} Its columns: {', '.join(names[:30])}."
            )
        for name, count in Counter(names).items():
            if count > 1 and name in self.inputs:
                raise DataError(f"{table} has {count} columns called {name!r}; rename them.")

    def schema(self, options: ResultOptions) -> dict[str, np.dtype[Any]]:
        """The name and the type of each result column; classes are text. Raises DataError if two have the same name."""
        classes = self.artifact.manifest.classes
        outputs = classes or tuple(output.name for output in self.artifact.manifest.outputs)
        if options.interval is not None:
            self.interval(options.interval)
        ends = [f"{name}_{end}" for name in outputs for end in ("low", "high")]
        slopes = [f"d{output}_d{name}" for output in outputs for name in self.inputs]
        columns: list[tuple[bool, Sequence[str], Any]] = [
            (bool(classes), ["class"], np.str_),
            (True, outputs, self.backend.dtype),
            (options.interval is not None, ends, self.backend.dtype),
            (options.outside, ["outside"], np.bool_),
            (options.gradient, slopes, np.float64),
        ]
        fields = [(name, kind) for there, names, kind in columns if there for name in names]
        twice = [name for name, count in Counter(map(itemgetter(0), fields)).items() if count > 1]
        if twice:
            raise DataError(f"Two columns of the result would be called {twice[0]!r}. Rename that input or output.")
        return {options.prefix + name: np.dtype(kind) for name, kind in fields}

    def compute(self, columns: Sequence[Column | None], rows: int, options: ResultOptions) -> list[Column]:
        """Compute the columns of `schema` from these input columns, None for an absent one. A class is given by its
        number, -1 for a row with an output that is not finite."""
        inputs, outputs = self.backend.inputs, self.backend.outputs
        block = max(_ROWS, _VALUES // max(inputs, outputs))
        scratch = np.empty((min(block, rows), inputs), np.float64 if options.gradient else self.backend.dtype)
        given = {
            i: column for i, column in enumerate(columns) if column is not None and self.inputs[i] not in self.absent
        }
        for i, name in enumerate(self.inputs):
            if i not in given:
                scratch[:, i] = self.absent[name]
        values = np.empty((outputs, rows), self.backend.dtype)
        slopes = np.empty((outputs * inputs if options.gradient else 0, rows))
        # A double beyond the range of float becomes infinite, and its row NaN.
        with np.errstate(all="ignore"):
            for start in range(0, rows, block):
                part = slice(start, min(start + block, rows))
                x = scratch[: part.stop - start]
                for i, column in given.items():
                    x[:, i] = column[part]
                if options.gradient:
                    values[:, part], slopes[:, part] = self._differentiate(x)
                else:
                    values[:, part] = self.backend.predict(x).T
        ends: list[Column] = []
        if options.interval is not None:
            widths = self.interval(options.interval).half_widths_at(values.T).astype(self.backend.dtype)
            widths = np.broadcast_to(widths, values.T.shape).T
            ends = [end for own, half in zip(values, widths, strict=True) for end in (own - half, own + half)]
        beyond = [self.outside(columns, rows)] if options.outside else []
        return [*self._answers(values), *ends, *beyond, *slopes]

    def interval(self, level: float) -> ConformalInterval:
        """The prediction interval of this level. Raises NotFoundError if the model has none."""
        manifest = self.artifact.manifest
        return interval_of(manifest.intervals, level, f"The model {manifest.name!r}")

    def _differentiate(self, x: Column) -> tuple[Column, Column]:
        """The outputs (outputs, N) and the derivatives (outputs * inputs, N) at rows x, float64."""
        count = len(x)
        if isinstance(self.backend, Differentiating) and self.backend.differentiates:
            data = self.backend.differentiate(x.tobytes(), count)[1:]
            y, slopes = (np.frombuffer(numbers, np.float64).reshape(count, -1) for numbers in data)
        else:
            y, slopes = self.backend.predict(x), jacobian(self.artifact.kan(), x).reshape(count, -1)
        return y.T, slopes.T

    def outside(self, columns: Sequence[Column | None], rows: int) -> NDArray[np.bool_]:
        """Mask of the rows with an input outside the training range; see `encoding.is_outside`."""
        beyond = np.zeros(rows, np.bool_)
        for variable, column, low, high in zip(self.artifact.manifest.inputs, columns, *self.limits, strict=True):
            if column is not None:
                beyond |= is_outside(variable, column, low, high)
        return beyond

    def _answers(self, values: Column) -> list[Column]:
        """The outputs; for a classifier the number of the predicted class, and the probabilities."""
        if not self.artifact.manifest.classes:
            return list(values)
        finite = np.isfinite(values).all(axis=0)
        return [np.where(finite, values.argmax(axis=0), -1), *softmax(values.T).T]


def to_numbers(values: Any, name: str) -> Column:
    """A column as numbers, copied only if its type requires it. Raises DataError that names the first invalid value."""
    column = np.asarray(values)
    if column.dtype.kind in "fiub":
        return column
    if column.dtype.kind not in "mMc":
        try:
            return column.astype(np.float64)
        except (TypeError, ValueError):
            pass
        for row, value in enumerate(column.tolist(), start=1):
            try:
                float(value)
            except (TypeError, ValueError):
                raise DataError(f"Column {name!r} must be numbers; row {row} is {value!r:.80}.") from None
    raise DataError(f"Column {name!r} must be numbers, got {column.dtype}.")


def keep_columns(names: Sequence[str], results: Sequence[str], keep: bool | Sequence[str]) -> list[str]:
    """The columns of a table to keep beside the results. Raises DataError if one is missing, or named as a result."""
    kept = [name for name in names if keep] if isinstance(keep, bool) else list(keep)
    for name in kept:
        if name not in names:
            near = get_close_matches(name, names, 1)
            raise DataError(f"The table has no column {name!r} to keep.{f' Is it {near[0]!r}?' if near else ''}")
        if name in results:
            raise DataError(
                f"The table has a column {name!r}, which is a column of the result too. "
                "Name the columns to keep without it, or give the results another prefix."
            )
    return kept
