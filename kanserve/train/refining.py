"""`kanserve.train.refine`: the refit, which also records the rows that it took.

The fits inside a search or a simplification call `levenberg_marquardt.refine` itself: their rows are in the numbers
that a network sees, and hashing them would cost a tenth of the shortest fits.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from numpy.typing import ArrayLike

from kanserve.data.dataset import Dataset
from kanserve.network.fitted_rows import hash_rows, record_rows
from kanserve.network.kan import Kan
from kanserve.train.lm import levenberg_marquardt

Refit = TypeVar("Refit", bound=Callable[..., Kan])


def _recording(refit: Refit) -> Refit:
    @wraps(refit)
    def recorded(kan: Kan, x: ArrayLike, y: ArrayLike, **options: Any) -> Kan:
        result = refit(kan, x, y, **options)
        if result is kan:
            return kan
        rows = Dataset(x, y)
        return record_rows(result, kan.fitted_rows, hash_rows(rows))

    return cast(Refit, recorded)  # it has the same signature


refine = _recording(levenberg_marquardt.refine)
