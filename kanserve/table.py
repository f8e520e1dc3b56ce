"""Training data: a table in a file becomes arrays with names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError, MissingDependencyError, NotFoundError

if TYPE_CHECKING:
    import pyarrow

Array = NDArray[np.float64]
Kind = Literal["auto", "regression", "classification"]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Rows to learn from: x (N, inputs), y (N, outputs); a classifier's y is one column a class, 0 or 1."""

    x: Array
    y: Array
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        x, y = _numbers(self.x, "x"), _numbers(self.y, "y")
        y = y[:, None] if y.ndim == 1 else y
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or 0 in x.shape or 0 in y.shape:
            raise DataError(f"Data need x (N, inputs) and y (N, outputs) with N ≥ 1, got {x.shape} and {y.shape}.")
        names = tuple(self.inputs) or tuple(f"x{i + 1}" for i in range(x.shape[1]))
        targets = tuple(self.outputs) or tuple(self.classes)
        targets = targets or (("y",) if y.shape[1] == 1 else tuple(f"y{q + 1}" for q in range(y.shape[1])))
        if len(names) != x.shape[1] or len(targets) != y.shape[1]:
            raise DataError(f"x {x.shape} and y {y.shape} need as many names, got {len(names)} and {len(targets)}.")
        for values, kind, labels in ((x, "input", names), (y, "output", targets)):
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                row, column = bad[0]
                raise DataError(
                    f"Training needs finite numbers: {kind} {labels[column]!r} is {values[row, column]} "
                    f"in row {row + 1} ({len(bad)} such values). Drop or fill those rows."
                )
        for name, value in (("x", x), ("y", y), ("inputs", names), ("outputs", targets)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Dataset({len(self)} rows, {len(self.inputs)} inputs, outputs {', '.join(self.outputs)})"

    def take(self, rows: NDArray[np.int64]) -> "Dataset":
        """These rows, in this order."""
        return replace(self, x=self.x[rows], y=self.y[rows])

    def split(self, share: float, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """Training and held-out rows: a random `share` is held out, the same for the same seed."""
        order = np.random.default_rng(seed).permutation(len(self))
        held = round(share * len(self))
        return self.take(np.sort(order[held:])), self.take(np.sort(order[:held]))


def dataset(data: object) -> Dataset:
    """A Dataset from what a caller may give: one already, or (x, y)."""
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, tuple) or len(data) != 2:
        raise DataError(f"Data are a Dataset or a pair (x, y), got {type(data).__name__}.")
    return Dataset(_numbers(data[0], "x"), _numbers(data[1], "y"))


def read_table(
    path: str | os.PathLike[str], target: str | Sequence[str], inputs: Sequence[str] = (), kind: Kind = "auto"
) -> Dataset:
    """Read a CSV or Parquet file: `target` columns to learn, from `inputs` (default: every other column).

    A single target of text, or any single target with kind="classification", makes a classifier whose classes are
    the sorted distinct values.
    """
    target = [target] if isinstance(target, str) else target
    table = _read(Path(path))
    names = list(table.column_names)
    wanted = list(inputs) or [name for name in names if name not in target]
    for name in [*target, *wanted]:
        if name not in names:
            raise DataError(f"{path} has no column {name!r}. Its columns: {', '.join(names)}.")
    if not target or not wanted:
        raise DataError("Choose at least one target column and leave at least one input column.")
    if set(target) & set(wanted):
        raise DataError(f"Column {sorted(set(target) & set(wanted))[0]!r} is both an input and a target.")
    if table.num_rows == 0:
        raise DataError(f"{path} has a header but no rows.")
    x = np.column_stack([_column(table, name, path) for name in wanted])
    if kind == "classification" or (kind == "auto" and len(target) == 1 and _is_text(table, target[0])):
        y, classes = _one_hot(table, target, path)
        return Dataset(x, y, tuple(wanted), classes, classes)
    y = np.column_stack([_column(table, name, path) for name in target])
    return Dataset(x, y, tuple(wanted), tuple(target))


def read_rows(path: str | os.PathLike[str], inputs: Sequence[str]) -> Array:
    """Read the rows (N, inputs) to predict from a CSV or Parquet file; missing values become NaN."""
    table = _read(Path(path))
    missing = [name for name in inputs if name not in table.column_names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}. Its columns: {', '.join(table.column_names)}.")
    return np.column_stack([_column(table, name, path) for name in inputs]).reshape(table.num_rows, len(inputs))


def _read(path: Path) -> "pyarrow.Table":
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError("pyarrow", "tables") from None
    if not path.exists():
        raise NotFoundError(f"There is no file {os.fspath(path)!r}.")
    if path.is_dir():
        raise DataError(f"{os.fspath(path)!r} is a folder; give a CSV or Parquet file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.")
    try:
        parquet = path.suffix.lower() in (".parquet", ".pq")
        table = pyarrow.parquet.read_table(path) if parquet else pyarrow.csv.read_csv(path)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise DataError(f"{path} has {table.column_names.count(twice[0])} columns called {twice[0]!r}; rename them.")
    return table


def _is_text(table: "pyarrow.Table", name: str) -> bool:
    import pyarrow

    kind = table.schema.field(name).type
    return bool(
        pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_dictionary(kind)
    )


def _column(table: "pyarrow.Table", name: str, path: object) -> Array:
    """One column as float64, missing values as NaN."""
    values = table.column(name)
    if _is_text(table, name):
        for row, value in enumerate(values.to_pylist()):
            try:
                float(value)
            except (TypeError, ValueError):
                raise DataError(f"{path}: column {name!r} must be numbers; row {row + 1} is {value!r}.") from None
        return np.array([float(value) for value in values.to_pylist()])
    try:
        return np.array([np.nan if v is None else float(v) for v in values.to_pylist()])
    except (TypeError, ValueError):
        raise DataError(f"{path}: column {name!r} must be numbers, got {table.schema.field(name).type}.") from None


def _one_hot(table: "pyarrow.Table", target: Sequence[str], path: object) -> tuple[Array, tuple[str, ...]]:
    if len(target) != 1:
        raise DataError(f"A classifier has one target column, got {len(target)}.")
    labels = table.column(target[0]).to_pylist()
    if None in labels:
        raise DataError(f"{path}: column {target[0]!r} has no class in row {labels.index(None) + 1}.")
    values = sorted(set(labels))
    if len(values) < 2:
        raise DataError(f"{path}: column {target[0]!r} has the single class {values[0]!r}; there is nothing to learn.")
    return np.array([[float(label == one) for one in values] for label in labels]), tuple(str(one) for one in values)


def _numbers(values: object, name: str) -> Array:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} must be numbers.") from None
