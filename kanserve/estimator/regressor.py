"""KANRegressor: regression."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import column_or_1d, validate_data

from kanserve.data.dataset import Dataset
from kanserve.data.frames import column_names
from kanserve.errors import InputError
from kanserve.estimator.base import NetworkEstimator
from kanserve.estimator.few_rows import outputs
from kanserve.estimator.hidden_choice import Plan
from kanserve.estimator.parameters import Hidden
from kanserve.estimator.sample_weights import check_weights, distinct
from kanserve.estimator.table_columns import encode_table
from kanserve.network.conformal_intervals import cross_conformal, factor_at, width_scales
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.network.parameter_names import names_parameters
from kanserve.search import FindingsByOutput, find_formulas
from kanserve.train.fit_warnings import TrainingWarning

FOLDS = 5
"""Of the rows that `intervals` leaves out in turn: with a fifth fewer rows the errors are hardly larger than those of
the network of all rows, and a tenth would take twice as long."""
SEARCH_OPTIONS = (
    *("checkpoint", "functions", "max_complexity", "n_jobs", "nested_constraints"),
    *("selection", "start", "template", "units"),
)
"""Arguments of `find_formulas` that people give to the estimator."""


class KANRegressor(MultiOutputMixin, RegressorMixin, NetworkEstimator):  # type: ignore[misc]  # no types in there
    """Regression with a Kolmogorov-Arnold network, which can be made a formula.

    Parameters
    ----------
    hidden : "auto", "fewest", tuple of int or (int, int), or int, default="auto"
        Nodes of each hidden layer; () is an additive model, a pair (sums, products) has nodes that multiply two sums.
        "auto" takes (), (2,) or (5,), from 10,000 rows on () or (10,): the fewest whose predictions of unseen rows are
        not clearly worse. "fewest" finds the smallest network that explains the data; then only tolerance and
        random_state have an effect.
    n_networks : int or "auto", default="auto"
        Networks that are fitted, from other starts and held-out rows, and averaged: their mean is one network with the
        hidden nodes of all (`kanserve.average`). It predicts noisy y better than one of them. "auto" is 5 with
        hidden="auto", on fewer than 10,000 noisy rows of up to 30 columns, else 1.
    grid : int, tuple of int or "auto", default="auto"
        Intervals of the finest splines. A fit begins with few and refines the grid while the held-out error falls; a
        tuple names every grid to take. "auto" is 10, and up to 100 where a poor fit leaves structure that asks for it.
    order : int, default=3
        Order of the splines.
    symbolic : bool, default=False
        Whether to search for a formula instead of training a network of this shape, by `kanserve.find_formulas`. Then
        only max_fits, seconds, search, random_state and progress have an effect.
    max_fits : int, default=1000
        With symbolic=True, the limit of fits in the search.
    seconds : float, default=None
        With symbolic=True, a limit of time as well; the formula then depends on the speed of the machine.
    search : mapping, default=None
        With symbolic=True, more arguments of `kanserve.find_formulas`, such as {"functions": ["sin", "exp"]}.
    tolerance : float or "auto", default="auto"
        How much error a simpler network may cost with hidden="fewest", in standard deviations of y.
    loss : {"squared", "huber", "quantile", "poisson", "tweedie"}, default="squared"
        What is minimised. "huber" bounds the pull of outliers; "poisson" and "tweedie" have a log link, as in
        HistGradientBoostingRegressor: predictions are positive and on the scale of y.
    quantile : float, default=0.5
        Of loss="quantile"; 0.5 minimises the absolute error.
    power : float, default=1.5
        Of loss="tweedie", above 1 and up to 2 (gamma).
    extrapolation : {"linear", "clip"}, default="linear"
        What is predicted where an input leaves its training range: "clip" goes on with the value at the end of it.
    monotonic_cst : mapping of str to int or sequence of int, default=None
        As in HistGradientBoostingRegressor: 1 for a column with which no prediction may fall, -1 where none may rise.
    smooth : float or "auto", default="auto"
        The strength of the smoothness penalty on the splines; "auto" chooses it on held-out rows.
    noise_free : bool, default=False
        Whether y is exact, so that "auto" need not choose a smoothness.
    screen : bool, default=True
        Whether to leave out inputs that tell nothing about y, of 20 or more with 10,000 rows, or with fewer than
        four answers per parameter.
    validation : float, default=0.2
        Share of the rows held out for choices; the last steps take all rows. With 0 every grid is used.
    intervals : bool, default=False
        Whether to fit for `predict_interval` too, which takes six times as long: five times, a fifth of the rows is
        left out, and the same network is fitted to the others.
    optimizer : {"auto", "lm", "lbfgs", "adam"}, default="auto"
        "auto" takes Levenberg-Marquardt if possible, LBFGS or Adam for large networks and penalties. Only these two
        need torch and use l1, entropy, learning_rate, batch and device.
    starts : int, default=None
        Random starts, of which the best is continued: 8 of Levenberg-Marquardt, 3 in a mean with hidden="auto", 1
        without hidden nodes; 1 or 4 of the others.
    steps : int, default=None
        The last steps of Levenberg-Marquardt, or all steps of the others.
    l1, entropy : float, default=0.0
        Sparsity penalties on the size of edges, and on the entropy of their sizes.
    learning_rate : float, default=None
        For LBFGS and Adam.
    batch : int, default=None
        Rows per step of Adam.
    device : str, default="cpu"
        The torch device.
    random_state : int, RandomState or None, default=None
        An integer makes fits equal.
    progress : bool or callable, default=False
        Whether to show the progress: in a notebook as a picture, elsewhere on the standard error. A callable is called
        with an event for each step.

    Attributes
    ----------
    kan_ : kanserve.Kan
        The immutable network, which kanserve exports, plots, simplifies and serves.
    unseen_errors_ : ndarray of shape (n_samples, n_outputs)
        With intervals=True, y minus the predictions of networks that have not seen the row.
    unseen_answers_ : ndarray of shape (n_samples, n_outputs)
        With intervals=True, these predictions.
    unseen_folds_ : ndarray of shape (n_samples,)
        With intervals=True, which of `unseen_kans_` has not seen the row.
    unseen_kans_ : tuple of kanserve.Kan
        With intervals=True, the five networks, each fitted without a fifth of the rows.
    findings_ : kanserve.Findings or kanserve.search.FindingsByOutput
        With symbolic=True, all formulas found and what the samples say of the best, whose network is `kan_`.
    formula_ : sympy.Expr or list of sympy.Expr
        With symbolic=True, the best formula in symbols named like the columns (x1, x2, ... if they have no names;
        characters not allowed in identifiers become _).
    closed_form_ : bool
        With symbolic=True, whether `formula_` has no splines: only a network from elsewhere (`from_kan`) has some.
    feature_importances_ : ndarray of shape (n_features,)
        How much the predictions change when a column of the training rows is shuffled, as of scikit-learn's
        `permutation_importance`; they add up to 1 (all are 0 if the predictions are constant).
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Notes
    -----
    Equal rows are merged and their weights added: a weight is the same as repetitions, and the order of the rows does
    not matter. X is dense. Columns of text and of the types category, Categorical and Enum are categorical, and values
    may be missing (NaN), as docs/training.md says, but not with hidden="fewest" or symbolic=True.

    Examples
    --------
    >>> import numpy as np
    >>> from kanserve import KANRegressor
    >>> X = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    >>> KANRegressor(random_state=0).fit(X, X[:, 0] ** 2 + X[:, 1]).score(X, X[:, 0] ** 2 + X[:, 1]) > 0.99
    True
    """

    options = (
        "loss",
        "quantile",
        "power",
        "extrapolation",
        "monotonic_cst",
        "smooth",
        "noise_free",
        "screen",
        "validation",
        "optimizer",
        "starts",
        "steps",
        "l1",
        "entropy",
        "learning_rate",
        "batch",
        "device",
    )

    @names_parameters(
        weights="Give them to fit: fit(X, y, sample_weight=...).",
        sample_weight="Give it to fit: fit(X, y, sample_weight=...).",
        **{name: f"Give it in search: symbolic=True, search={{'{name}': ...}}." for name in SEARCH_OPTIONS},
    )
    def __init__(
        self,
        hidden: Hidden = "auto",
        *,
        n_networks: int | Literal["auto"] = "auto",
        grid: int | Sequence[int] | Literal["auto"] = "auto",
        order: int = 3,
        symbolic: bool = False,
        max_fits: int = 1000,
        seconds: float | None = None,
        search: Mapping[str, Any] | None = None,
        tolerance: float | Literal["auto"] = "auto",
        loss: Literal["squared", "huber", "quantile", "poisson", "tweedie"] = "squared",
        quantile: float = 0.5,
        power: float = 1.5,
        extrapolation: Literal["linear", "clip"] = "linear",
        monotonic_cst: Mapping[str, int] | Sequence[int] | None = None,
        smooth: float | Literal["auto"] = "auto",
        noise_free: bool = False,
        screen: bool = True,
        validation: float = 0.2,
        intervals: bool = False,
        optimizer: Literal["auto", "lm", "lbfgs", "adam"] = "auto",
        starts: int | None = None,
        steps: int | None = None,
        l1: float = 0.0,
        entropy: float = 0.0,
        learning_rate: float | None = None,
        batch: int | None = None,
        device: str = "cpu",
        random_state: Any = None,
        progress: bool | Callable[[Any], None] = False,
    ) -> None:
        self.hidden = hidden
        self.n_networks = n_networks
        self.grid = grid
        self.order = order
        self.symbolic = symbolic
        self.max_fits = max_fits
        self.seconds = seconds
        self.search = search
        self.tolerance = tolerance
        self.loss = loss
        self.quantile = quantile
        self.power = power
        self.extrapolation = extrapolation
        self.monotonic_cst = monotonic_cst
        self.smooth = smooth
        self.noise_free = noise_free
        self.screen = screen
        self.validation = validation
        self.intervals = intervals
        self.optimizer = optimizer
        self.starts = starts
        self.steps = steps
        self.l1 = l1
        self.entropy = entropy
        self.learning_rate = learning_rate
        self.batch = batch
        self.device = device
        self.random_state = random_state
        self.progress = progress

    @names_parameters()
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on samples.

        Parameters
        ----------
        X : array_like or DataFrame of shape (n_samples, n_features)
            Samples; columns of text and categories of a DataFrame are categorical, NaN is a missing value.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array_like of shape (n_samples,), optional
            Weights of 0 or more; a sample of weight 2 counts as two.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            X, y or a parameter of the estimator cannot be used; kanserve's own are `kanserve.errors.InputError`.

        Examples
        --------
        >>> import numpy as np
        >>> from kanserve import KANRegressor
        >>> X = np.linspace(-1, 1, 40)[:, None]
        >>> KANRegressor(hidden=(), random_state=0).fit(X, X[:, 0] ** 2).kan_.shape
        (1, 1)
        """
        X, categories = encode_table(X)
        x, answers = validate_data(
            self,
            X,
            y,
            dtype=np.float64,
            multi_output=True,
            y_numeric=True,
            ensure_min_samples=2,
            ensure_all_finite="allow-nan",
        )
        if answers.ndim == 2 and answers.shape[1] == 1:
            answers = column_or_1d(answers, warn=True)
        weights = check_weights(sample_weight, x)
        self._check(weights is not None)
        x, answers, weights = distinct(x, answers.reshape(len(x), -1).astype(np.float64), weights)
        names = column_names(X, x.shape[1])
        outputs = column_names(y, answers.shape[1])
        self._learn(Dataset(x, answers, names, outputs, weights=weights, categories=categories))
        return self

    def _check(self, weighted: bool) -> None:
        """Raise InputError for parameters that contradict each other."""
        if self.seconds is not None and not self.symbolic:
            raise InputError("seconds limits the search for a formula: it needs symbolic=True.")
        if self.intervals and self.symbolic:
            raise InputError(
                "intervals=True is for networks of splines. A formula has its own: findings_.best.interval(X, level)."
            )
        if self.intervals and weighted:
            raise InputError("intervals=True takes no sample_weight: the intervals hold for rows that count alike.")

    def _after_fit(self, data: Dataset, seed: int, plan: Plan) -> None:
        """With `intervals`, compute the errors (N, outputs) of cross-validated networks with the same plan."""
        for name in ("unseen_answers_", "unseen_errors_", "unseen_folds_", "unseen_kans_"):
            self.__dict__.pop(name, None)
        if not self.intervals:
            return
        order = np.random.default_rng(seed).permutation(len(data))
        errors, folds, kans = np.empty_like(data.y), np.empty(len(data), np.intp), list[Kan]()
        for out in np.array_split(order, min(FOLDS, len(data))):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TrainingWarning)  # the fit to all rows has said it
                kan = self._network(data.without(out), seed, plan)
            errors[out], folds[out] = data.y[out] - evaluate(kan, data.x[out]), len(kans)
            kans.append(kan)
        # The weights are how often equal rows were there.
        times = 1 if data.weights is None else data.weights.astype(int)
        self.unseen_errors_, self.unseen_folds_ = np.repeat(errors, times, axis=0), np.repeat(folds, times)
        self.unseen_answers_ = np.repeat(data.y - errors, times, axis=0)
        self.unseen_kans_ = tuple(kans)

    def _symbolic(self, data: Dataset, seed: int) -> Kan:
        options = {
            "max_fits": self.max_fits,
            "seconds": self.seconds,
            "seed": seed,
            "progress": self.progress,
            **(self.search or {}),
        }
        self.findings_ = find_formulas(data, **options)
        kan: Kan = self.findings_.kan if isinstance(self.findings_, FindingsByOutput) else self.findings_.best.kan
        return kan

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """The predictions.

        Parameters
        ----------
        X : array_like or DataFrame of shape (n_samples, n_features)
            Samples, with the columns of `fit`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the units of y.

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ValueError
            X has other columns than in `fit`, or values that are not numbers.

        Examples
        --------
        >>> import numpy as np
        >>> from kanserve import KANRegressor
        >>> X = np.linspace(-1, 1, 40)[:, None]
        >>> KANRegressor(hidden=(), random_state=0).fit(X, X[:, 0] ** 2).predict([[0.5]]).round(3)
        array([0.25])
        """
        found = self._evaluate(X)
        return found[:, 0] if found.shape[1] == 1 else found

    def predict_interval(self, X: ArrayLike, level: float = 0.9) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The prediction intervals, which contain the value of a new row with this probability.

        Five networks are fitted, each without a fifth of the rows. The ends are quantiles of their predictions plus and
        minus the errors that each makes on the rows which it has not seen (CV+; Barber et al. 2021), and the prediction
        itself is inside. Where these rows show that large predictions have other errors than small ones, the errors are
        divided by a scale, and the width follows the prediction. New rows must be like those of `fit`.
        benchmarks/interval_coverage.py measures how many new values are inside on ten tables.

        Parameters
        ----------
        X : array_like or DataFrame of shape (n_samples, n_features)
            Samples, with the columns of `fit`.
        level : float, default=0.9
            The probability, between 0 and 1. 0.9 takes 9 rows in `fit`, and 0.95 takes 19.

        Returns
        -------
        tuple of ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The lower and the upper ends.

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ValueError
            `intervals` is not True, the level is not between 0 and 1, or there were too few rows for it.

        Examples
        --------
        >>> import numpy as np
        >>> from kanserve import KANRegressor
        >>> X = np.linspace(-1, 1, 40)[:, None]
        >>> y = X[:, 0] + np.random.default_rng(0).normal(0, 0.1, 40)
        >>> estimator = KANRegressor(hidden=(), intervals=True, random_state=0).fit(X, y)
        >>> low, high = estimator.predict_interval([[0.5]])
        >>> bool(low[0] < 0.5 < high[0])
        True
        """
        x = self._check_rows(X)
        if not hasattr(self, "unseen_errors_"):
            raise InputError("Prediction intervals take networks that have not seen all rows: set intervals=True, fit.")
        if not 0 < level < 1:
            raise InputError(f"The level of an interval is a number between 0 and 1, got {level!r}.")
        found = outputs(self.kan_, x)
        # Where a fold had no missing values its network has no number for them, and the network of all rows stands in.
        others = [outputs(kan, x) for kan in self.unseen_kans_]
        others = [np.where(np.isfinite(answers), answers, found) for answers in others]
        low, high = np.empty_like(found), np.empty_like(found)
        for q in range(found.shape[1]):
            ends = self._ends([answers[:, q] for answers in others], q, level)
            if ends is None:
                raise InputError(
                    f"{len(self.unseen_errors_)} rows are too few for an interval of {level:g}, or the network is not "
                    "finite."
                )
            low[:, q], high[:, q] = np.minimum(ends[0], found[:, q]), np.maximum(ends[1], found[:, q])
        return (low[:, 0], high[:, 0]) if found.shape[1] == 1 else (low, high)

    def _ends(self, answers: Sequence[NDArray[np.float64]], q: int, level: float) -> tuple[Any, Any] | None:
        """The ends of the prediction intervals of output q, from the predictions of the folds' networks."""
        errors, folds, known = self.unseen_errors_[:, q], self.unseen_folds_, self.unseen_answers_[:, q]
        scales = width_scales(known, np.abs(errors), folds, level)
        factors = None
        if scales is not None:
            factors = [factor_at(scale, answer) for scale, answer in zip(scales, answers, strict=False)]
            errors = errors / np.choose(folds, [factor_at(scale, known) for scale in scales])
        return cross_conformal([errors[folds == fold] for fold in range(len(answers))], answers, level, factors)

    @classmethod
    def from_kan(cls, kan: Kan) -> Self:
        """A fitted estimator from a network, for example a loaded one; it has no feature_importances_.

        Parameters
        ----------
        kan : Kan
            A network without classes.

        Returns
        -------
        KANRegressor
            Its predictions are those of the network.

        Raises
        ------
        InputError
            The network is a classifier's.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*x1 + 1", ranges={"x1": (0, 1)})
        >>> kanserve.KANRegressor.from_kan(kan).predict([[0.5]]).tolist()
        [2.0]
        """
        if kan.classes:
            raise InputError("This network is a classifier's: use KANClassifier.from_kan.")
        return cls._of(kan)
