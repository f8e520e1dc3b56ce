"""Data sets: samples as named arrays, from arrays, (x, y) pairs or DataFrames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.dataset_checks import as_numbers, check_categories, check_finite, check_names, row_weights
from kanserve.data.frames import (
    NONE,
    Categories,
    DataFrame,
    as_table,
    check_columns,
    column_names,
    encode_columns,
    frame_numbers,
    is_categorical,
    is_frame,
    split_frame,
)
from kanserve.data.labels import check_learnable, is_text, is_whole, label_column, one_hot
from kanserve.displays import display
from kanserve.errors import DataError

Array = NDArray[np.float64]
Kind = Literal["auto", "regression", "classification"]

Target = str | Sequence[str] | None

MANY = 2**22  # rows, above which no permutation of all rows is made


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training samples.

    Parameters
    ----------
    x : array_like of shape (n_samples, n_inputs)
        Inputs, in raw units. Arrays of float64, including numpy.memmap, are not copied.
    y : array_like of shape (n_samples,) or (n_samples, n_outputs)
        The targets; or the class label of each sample, as text or, with `classes`, as integers. Labels are one-hot
        encoded: one column per class, 0 or 1.
    inputs, outputs : sequence of str, optional
        Names; by default x1, x2, ... and y, or y1, y2, ..., or the classes.
    classes : sequence or "auto", optional
        The classes of a classifier, in the order of its outputs. A label is the name of a class or, if no label is a
        name, its index. "auto" takes the sorted distinct labels, which is the default for text labels.
    weights : array_like of shape (n_samples,), optional
        Sample weights of 0 or more; only their ratios matter, and a sample of weight 2 counts as two.
    categories : mapping of str to sequence of str, optional
        The categories of each categorical input, by its name. Its values in x are their codes: 0, 1, and so on.

    Raises
    ------
    DataError
        Shapes or names do not fit together, a number is infinite, or a target is missing.

    Notes
    -----
    NaN in x is a missing value, which `fit` and `simplify` accept.

    Examples
    --------
    >>> import kanserve
    >>> kanserve.Dataset([[0.0], [1.0], [2.0]], ["low", "low", "high"]).classes
    ('high', 'low')
    >>> kanserve.Dataset([[0.0], [1.0], [2.0]], [0, 0, 1], classes=["low", "high"]).y.tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    >>> kanserve.Dataset([[0.0], [1.0]], [0.0, 1.0], weights=[1.0, 3.0]).shares.tolist()
    [0.25, 0.75]
    """

    x: Array
    y: Array
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    classes: Sequence[str] = ()
    weights: Array | None = None
    categories: Categories = field(default_factory=dict)

    if TYPE_CHECKING:  # the fields have what becomes of these

        def __init__(
            self,
            x: ArrayLike | DataFrame,
            y: ArrayLike,
            inputs: Sequence[str] = (),
            outputs: Sequence[str] = (),
            classes: Sequence[object] = (),
            weights: ArrayLike | None = None,
            categories: Categories = NONE,
        ) -> None: ...

    def __post_init__(self) -> None:
        values, classes = _answers(self.y, self.classes)
        x, y = as_numbers(self.x, "x"), as_numbers(values, "y")
        y = y[:, None] if y.ndim == 1 else y
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or 0 in x.shape or 0 in y.shape:
            raise DataError(f"Data need x (N, inputs) and y (N, outputs) with N ≥ 1, got {x.shape} and {y.shape}.")
        names = tuple(self.inputs) or _number_names("x", x.shape[1])
        targets = tuple(self.outputs) or classes or (("y",) if y.shape[1] == 1 else _number_names("y", y.shape[1]))
        if len(names) != x.shape[1] or len(targets) != y.shape[1]:
            raise DataError(f"x {x.shape} and y {y.shape} need as many names, got {len(names)} and {len(targets)}.")
        check_names("inputs", names)
        check_names("outputs", targets)
        check_finite(x, "input", names, missing=True)
        check_finite(y, "output", targets)
        object.__setattr__(self, "categories", check_categories(self.categories, x, names))
        weights = None if self.weights is None else row_weights(self.weights, len(x))
        made = {"x": x, "y": y, "inputs": names, "outputs": targets, "classes": classes, "weights": weights}
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        weighted = "" if self.weights is None else "weighted "
        return f"Dataset({len(self)} {weighted}rows, {len(self.inputs)} inputs, outputs {', '.join(self.outputs)})"

    def _repr_html_(self) -> str:
        shown: str = display("dataset_page")(self)
        return shown

    def check_numbers(self) -> None:
        """Refuse categories and missing values among the inputs.

        Raises
        ------
        DataError
            An input has categories, or a value is missing; the message says which.

        Examples
        --------
        >>> import kanserve
        >>> data = kanserve.Dataset([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 4.0, 9.0])
        >>> data.check_numbers()
        """
        for name in self.categories:
            raise DataError(
                f"Input {name!r} has categories; numbers are needed here. Leave it out, or encode it first."
            )
        check_finite(self.x, "input", self.inputs)

    @property
    def shares(self) -> Array:
        """The weights of the rows (N,), normalised to sum 1."""
        if self.weights is None:
            return np.full(len(self), 1 / len(self))
        relative = self.weights / self.weights.max()  # so that a sum of huge weights does not overflow
        result: Array = relative / relative.sum()
        return result

    def mean(self, values: Array) -> Array:
        """The weighted mean over the rows.

        Parameters
        ----------
        values : ndarray of shape (n_samples, ...)
            What to take the mean of.

        Returns
        -------
        ndarray of shape (...)
            The mean.

        Examples
        --------
        >>> import kanserve
        >>> data = kanserve.Dataset([[0.0], [1.0]], [0.0, 4.0], weights=[0.0, 2.0])
        >>> data.mean(data.y).tolist()
        [4.0]
        """
        result: Array = values.mean(axis=0) if self.weights is None else self.shares @ values
        return result

    def take(self, rows: NDArray[np.int64]) -> "Dataset":
        """Some of the rows.

        Parameters
        ----------
        rows : ndarray of int
            Their positions, in the order wanted.

        Returns
        -------
        Dataset
            Those rows, with their weights.

        Examples
        --------
        >>> import kanserve
        >>> data = kanserve.Dataset([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 4.0, 9.0])
        >>> data.take([3, 1]).y.tolist()
        [[9.0], [1.0]]
        """
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, x=self.x[rows], y=self.y[rows], weights=weights)

    def without(self, rows: NDArray[np.int64]) -> "Dataset":
        """All rows but some.

        Parameters
        ----------
        rows : ndarray of int
            The positions of those to leave out.

        Returns
        -------
        Dataset
            The others, in their order.

        Examples
        --------
        >>> import kanserve
        >>> data = kanserve.Dataset([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 4.0, 9.0])
        >>> data.without([3, 1]).y.tolist()
        [[0.0], [4.0]]
        """
        return self.take(np.delete(np.arange(len(self)), rows))

    def split(self, share: float, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """Part the rows at random into training and held-out rows; those of weight 0 are in neither.

        Parameters
        ----------
        share : float
            How much to hold out, between 0 and 1 of the rows.
        seed : int, default=0
            Equal seeds hold out the same rows.

        Returns
        -------
        tuple of Dataset
            The training rows and the held-out rows, both in their original order.

        Raises
        ------
        DataError
            A part would have no rows.

        Examples
        --------
        >>> import kanserve
        >>> data = kanserve.Dataset([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 4.0, 9.0])
        >>> data.split(0.25)
        (Dataset(3 rows, 1 inputs, outputs y), Dataset(1 rows, 1 inputs, outputs y))
        """
        if not 0 < share < 1:
            raise DataError(f"A split holds out a share of the rows, between 0 and 1; got {share!r:.80}.")
        data = self.counted()
        order = np.random.default_rng(seed).permutation(len(data))
        held = round(share * len(data))
        return data.take(np.sort(order[held:])), data.take(np.sort(order[:held]))

    def sample(self, most: int, seed: int) -> "Dataset":
        """A random sample of the rows.

        Parameters
        ----------
        most : int
            How many rows at most; fewer are returned as they are.
        seed : int
            Equal seeds draw the same rows.

        Returns
        -------
        Dataset
            The rows drawn, in their original order.

        Examples
        --------
        >>> import kanserve
        >>> data = kanserve.Dataset([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 4.0, 9.0])
        >>> len(data.sample(2, seed=0))
        2
        """
        return self if len(self) <= most else self.take(some(len(self), most, seed))

    def counted(self) -> "Dataset":
        """The rows whose weight is not 0.

        Returns
        -------
        Dataset
            This one where all count.

        Examples
        --------
        >>> import kanserve
        >>> data = kanserve.Dataset([[0.0], [1.0]], [0.0, 4.0], weights=[0.0, 2.0])
        >>> len(data.counted())
        1
        """
        if self.weights is None or self.weights.all():
            return self
        return self.take(np.flatnonzero(self.weights))


def _number_names(letter: str, count: int) -> tuple[str, ...]:
    return tuple(f"{letter}{n + 1}" for n in range(count))


def _answers(y: Any, classes: str | Sequence[object]) -> tuple[object, tuple[str, ...]]:
    """The targets, one-hot (N, classes) if they are labels, and the class names."""
    labels = label_column(y)
    if labels is not None and (isinstance(classes, str) or len(classes) > 1 or is_text(labels)):
        values, names = one_hot(labels, () if isinstance(classes, str) else classes)
        if not isinstance(classes, str) and len(classes) == 0:
            check_learnable(names, len(values))
        return values, names
    if isinstance(classes, str):
        raise DataError(f"Class labels are one column (N,), got y of shape {np.shape(y)}.")
    return y, tuple(str(name) for name in classes)


TrainingData = Dataset | tuple[object, object] | DataFrame | Mapping[str, Any]
"""The types of `data` for training and simplification; a DataFrame or a dict of columns needs `target`, the columns to
learn."""


def some(of: int, count: int, seed: int) -> NDArray[np.int64]:
    """The sorted positions of `count` random rows out of `of`."""
    generator = np.random.default_rng(seed)
    if of <= MANY:
        return np.sort(generator.permutation(of)[:count])
    return np.sort(generator.choice(of, count, replace=False, shuffle=False))


def past(held: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Convert positions among the rows that are not `held` (ascending) to positions in all rows."""
    return positions + np.searchsorted(held - np.arange(len(held)), positions, side="right")


def dataset(
    data: object,
    target: Target = None,
    *,
    classes: Sequence[str] = (),
    outputs: int | None = None,
    labels: bool = False,
    tables: bool = False,
    known: Categories = NONE,
    wanted: Sequence[str] = (),
) -> Dataset:
    """Convert a caller's data to a Dataset: a Dataset, (x, y), or a DataFrame and its `target` columns. A single column
    of text holds labels; so does one of integers if `labels`, or if several `outputs` are expected. Only with `tables`
    inputs may be categorical or missing; `known` are their categories, `wanted` the input columns."""
    made = _dataset(as_table(data), target, classes, outputs, labels, known, wanted)
    if not tables:
        made.check_numbers()
    return made


def _dataset(
    data: object,
    target: Target,
    classes: Sequence[str],
    outputs: int | None,
    labels: bool,
    known: Categories,
    wanted: Sequence[str],
) -> Dataset:
    if not is_frame(data) and target is not None:
        raise DataError(f"target names columns of a DataFrame; the data given are {_describe(data)}.")
    if isinstance(data, Dataset):
        return data
    names: tuple[str, ...]
    if is_frame(data):
        x, inputs, names, y, categories = split_frame(data, target, known, wanted)
    elif isinstance(data, tuple) and len(data) == 2:
        x, inputs, categories = _inputs(as_table(data[0]), known, wanted)
        y = data[1]
        names = column_names(y, 1)
    else:
        raise DataError(
            "Data are a Dataset, a pair (x, y), or a DataFrame or dict of columns with target=...; "
            f"got {_describe(data)}."
        )
    column = label_column(y)
    if column is None:
        y = as_numbers(y, "y")
        return Dataset(x, y, inputs, names if len(names) == y.shape[-1] else (), categories=categories)
    labelled = _one_hot(y, column, classes, outputs, labels, names[0] if names else "y")
    if labelled is None:
        return Dataset(x, as_numbers(column, "y"), inputs, names, categories=categories)
    values, found = labelled
    return Dataset(x, values, inputs, found, found, categories=categories)


def _one_hot(
    y: Any, column: NDArray[Any], classes: Sequence[str], outputs: int | None, labels: bool, name: str
) -> tuple[Array, tuple[str, ...]] | None:
    """The column one-hot encoded, and the class names; None if it holds numbers to predict."""
    several = outputs is not None and outputs > 1 and is_whole(column)
    if not (len(classes) > 1 or labels or several or is_text(column) or is_categorical(y)):
        return None
    values, found = one_hot(column, classes)
    if not (classes or labels or several):
        check_learnable(found, len(values), name)
    return values, found


def _inputs(x: object, known: Categories, wanted: Sequence[str]) -> tuple[Array, tuple[str, ...], Categories]:
    """The inputs of a pair (x, y), their names, and the categories."""
    if not is_frame(x):
        numbers = as_numbers(x, "x")
        return numbers, column_names(x, numbers.shape[-1]) if numbers.ndim == 2 else (), NONE
    names = column_names(x, len(x.columns))
    if set(wanted) & set(names):
        check_columns(names, wanted)
        numbers, categories = encode_columns(x, wanted, known)
        return numbers, tuple(wanted), categories
    numbers, categories = frame_numbers(x, known)
    return numbers, names, categories


def _describe(data: object) -> str:
    """The type and size of data, for messages."""
    kind = type(data).__name__
    if isinstance(data, tuple | list):
        return f"a {kind} of length {len(data)}"
    return f"an array of shape {data.shape}" if isinstance(data, np.ndarray) else f"a {kind}"
