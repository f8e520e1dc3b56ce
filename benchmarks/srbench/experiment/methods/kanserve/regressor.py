"""kanserve as a method of SRBench: `est`, `model` and `eval_kwargs` are the names that its scripts read."""

from typing import Any, Self

import numpy as np
import pandas as pd
import sympy
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin

import kanserve

ENDING = 0.9
"""The part of `max_time` after which the search tries nothing more. Its last formulas are still simplified, which took
0.7 and 1.4 seconds after 54; an hour leaves six minutes."""


class KanserveRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # no types in there
    """Symbolic regression by `kanserve.find_formulas`.

    Parameters
    ----------
    max_time : float, default=3600
        Seconds after which `fit` ends with the best formula so far; a law that is exact ends it at once.
    max_fits : int, default=None
        A limit of fits, too, which does not depend on the speed of the machine.
    n_jobs : int, default=1
        Processes that the search runs steps ahead in.
    random_state : int, default=0
        Seed of the held-out rows and the random starts.

    Attributes
    ----------
    findings_ : kanserve.Findings
        All formulas, from the simplest to the most exact, and the best of them.
    """

    def __init__(
        self, max_time: float = 3600, max_fits: int | None = None, n_jobs: int = 1, random_state: int = 0
    ) -> None:
        self.max_time, self.max_fits, self.n_jobs, self.random_state = max_time, max_fits, n_jobs, random_state

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Search for formulas of y (N,) in the columns of X (N, inputs), a DataFrame or an array."""
        x = np.asarray(X, np.float64)
        data = kanserve.Dataset(x, np.asarray(y, np.float64).reshape(-1, 1))
        self.findings_ = kanserve.find_formulas(
            data,
            seconds=ENDING * self.max_time,
            max_fits=self.max_fits,
            n_jobs=self.n_jobs,
            seed=self.random_state,
        )
        self.n_features_in_ = x.shape[1]
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The best formula (N,) at the rows of X (N, inputs)."""
        values: NDArray[np.float64] = kanserve.evaluate(self.findings_.best.kan, np.asarray(X, np.float64))[:, 0]
        return values


def model(est: KanserveRegressor, X: pd.DataFrame) -> str:
    """The best formula as text for sympy, in the names of the columns of X and with all digits of its constants."""
    expression = kanserve.formula.expression(est.findings_.best.formula)
    ours = {str(symbol): symbol for symbol in expression.free_symbols}
    names = {f"x{column + 1}": sympy.Symbol(str(name)) for column, name in enumerate(X.columns)}
    text = str(expression.xreplace({ours[name]: names[name] for name in ours}))
    # The assessment reads "p/" as an operator of another method, and so would drop the variable p from p/q.
    return text.replace("/", " / ")


est = KanserveRegressor()

# The search scales by itself, and laws in the units of the table have simpler constants.
eval_kwargs = {"scale_x": False, "scale_y": False, "test_params": {"max_fits": 300}}
