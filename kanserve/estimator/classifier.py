"""KANClassifier: classification."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from kanserve.data.dataset import Dataset
from kanserve.data.frames import column_names
from kanserve.errors import DataError, InputError
from kanserve.estimator.base import NetworkEstimator
from kanserve.estimator.parameters import Hidden
from kanserve.estimator.sample_weights import check_weights, class_names, distinct
from kanserve.estimator.table_columns import encode_table
from kanserve.network.evaluate import softmax
from kanserve.network.kan import Kan
from kanserve.network.parameter_names import names_parameters

Array = NDArray[np.float64]


class KANClassifier(ClassifierMixin, NetworkEstimator):  # type: ignore[misc]  # no types in there
    """Classification with a Kolmogorov-Arnold network, one score for each class; the scores can be made formulas.

    Parameters
    ----------
    hidden : "auto", "fewest", tuple of int or (int, int), or int, default="auto"
        Nodes of each hidden layer; () is an additive model, a pair (sums, products) has nodes that multiply two sums.
        "fewest" finds the least width that explains the data. "auto" takes (), (2,) or (8,), from 1000 rows or 9
        classes on (), (2,) or (32,): the fewest whose predictions of unseen rows are not clearly worse. Where these
        are too sure, the scores move towards those of the class frequencies. For formulas it is (5,).
    n_networks : int or "auto", default="auto"
        Networks that are fitted, from other starts and held-out rows, and averaged: the mean of their scores is one
        network with the hidden nodes of all (`kanserve.average`). "auto" is 4 with hidden="auto", on fewer than 10,000
        noisy rows of up to 30 columns and with up to 8 nodes, else 1.
    grid : int or tuple of int, default=3
        Intervals of the splines; a tuple names every grid to take.
    order : int, default=3
        Order of the splines.
    symbolic : bool, default=False
        Whether to prune the network and name its functions, so that its scores are formulas.
    class_weight : mapping of label to float, "balanced" or None, default=None
        Weights of the classes, 1 where the mapping has none, by which those of the rows are multiplied. "balanced"
        gives rare classes the weight of frequent ones; the probabilities are then those of equally frequent classes.
    tolerance : float or "auto", default="auto"
        How much loss a simpler network may cost with symbolic=True or hidden="fewest".
    validation : float, default=0.2
        Share of the rows held out for early stopping, against overfitting.
    extrapolation : {"linear", "clip"}, default="linear"
        What happens where an input leaves its training range: "clip" goes on with the scores at the end of it.
    monotonic_cst : mapping of str to int or sequence of int, default=None
        As in HistGradientBoostingClassifier, for two classes: 1 for a column with which the probability of the second
        may not fall, -1 where it may not rise.
    optimizer : {"auto", "lm", "lbfgs", "adam"}, default="auto"
        How to minimise the cross-entropy: "auto" takes Levenberg-Marquardt for up to 400 parameters, which needs no
        torch, then LBFGS, or Adam from 50,000 rows on.
    starts : int, default=None
        Random starts, of which the best is continued: 24 of Levenberg-Marquardt, fewer in a mean of networks, 1 without
        hidden nodes; 1 or 4 of the others.
    steps : int, default=None
        The most steps.
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
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    kan_ : kanserve.Kan
        The immutable network, which kanserve exports, plots, simplifies and serves.
    formula_ : list of sympy.Expr
        With symbolic=True, the score of each class in symbols named like the columns (x1, x2, ... if they have no
        names; characters not allowed in identifiers become _). Probabilities are the softmax of the scores.
    closed_form_ : bool
        With symbolic=True, whether `formula_` has no splines left (functions s_layer_subnode_input).
    feature_importances_ : ndarray of shape (n_features,)
        How much the probabilities change when a column of the training rows is shuffled, as of scikit-learn's
        `permutation_importance`; they add up to 1 (all are 0 if the probabilities are constant).
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Notes
    -----
    Equal rows are merged and their weights added: a weight is the same as repetitions, and the order of the rows does
    not matter. X is dense. Columns of text and of the types category, Categorical and Enum are categorical, and values
    may be missing (NaN), as docs/training.md says, but not with hidden="fewest".

    Examples
    --------
    >>> import numpy as np
    >>> from kanserve import KANClassifier
    >>> X = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    >>> y = np.where((X**2).sum(axis=1) < 0.5, "inside", "outside")
    >>> KANClassifier(random_state=0).fit(X, y).score(X, y) > 0.95
    True

    The examples of its methods have this one:

    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.where(X[:, 0] > 0.3, "high", "low")
    >>> estimator = KANClassifier(hidden=(), random_state=0).fit(X, y)
    """

    options = (
        "validation",
        "extrapolation",
        "monotonic_cst",
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
        weights="Give them to fit, as sample_weight=; weights of classes are class_weight=.",
        sample_weight="Give it to fit: fit(X, y, sample_weight=...).",
        max_fits="The formulas of a classifier come from kanserve.simplify, which has no limit of fits.",
        seconds="The formulas of a classifier come from kanserve.simplify, which has no limit of time.",
    )
    def __init__(
        self,
        hidden: Hidden = "auto",
        *,
        n_networks: int | Literal["auto"] = "auto",
        grid: int | Sequence[int] = 3,
        order: int = 3,
        symbolic: bool = False,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        tolerance: float | Literal["auto"] = "auto",
        validation: float = 0.2,
        extrapolation: Literal["linear", "clip"] = "linear",
        monotonic_cst: Mapping[str, int] | Sequence[int] | None = None,
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
        self.class_weight = class_weight
        self.tolerance = tolerance
        self.validation = validation
        self.extrapolation = extrapolation
        self.monotonic_cst = monotonic_cst
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
        y : array_like of shape (n_samples,)
            The labels, of any sortable type.
        sample_weight : array_like of shape (n_samples,), optional
            Weights of 0 or more; a sample of weight 2 counts as two.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            X, y or a parameter of the estimator cannot be used; kanserve's own are `kanserve.errors.InputError`, such
            as `DataError` where all rows that count are of one class.

        Examples
        --------
        >>> KANClassifier(hidden=(), random_state=0).fit(X, y).classes_.tolist()
        ['high', 'low']
        """
        X, categories = encode_table(X)
        x, labels = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2, ensure_all_finite="allow-nan")
        labels = column_or_1d(labels, warn=True)
        check_classification_targets(labels)
        weights = check_weights(sample_weight, x)
        if weights is not None:
            # Before the classes are determined: rows of weight 0 add none.
            x, labels, weights = (array[weights > 0] for array in (x, labels, weights))
        if self.class_weight is not None:
            of_classes = compute_sample_weight(self.class_weight, labels)
            weights = of_classes if weights is None else weights * of_classes
        classes, index = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(
                f"A classifier needs at least 2 classes; all rows that count are of one class, {str(classes[0])!r}."
            )
        x, chosen, weights = distinct(x, np.eye(len(classes))[index], weights)
        names = column_names(X, x.shape[1])
        self.classes_ = classes
        known = class_names(classes)
        self._learn(Dataset(x, chosen, names, classes=known, weights=weights, categories=categories))
        return self

    def decision_function(self, X: ArrayLike) -> Array:
        """The scores of the classes.

        Parameters
        ----------
        X
            As in `predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            A score for each class in the order of `classes_`; for two classes the second score minus the first.

        Raises
        ------
        NotFittedError, ValueError
            As in `predict`.

        Examples
        --------
        >>> estimator.decision_function([[-0.9], [0.9]]) > 0
        array([ True, False])
        """
        scores = self._evaluate(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable label of each sample.

        Parameters
        ----------
        X : array_like or DataFrame of shape (n_samples, n_features)
            Samples, with the columns of `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`.

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ValueError
            X has other columns than in `fit`, or values that are not numbers.

        Examples
        --------
        >>> estimator.predict([[-0.9], [0.9]]).tolist()
        ['low', 'high']
        """
        likeliest = self._evaluate(X).argmax(axis=1)
        found: NDArray[Any] = self.classes_[likeliest]
        return found

    def predict_proba(self, X: ArrayLike) -> Array:
        """The probabilities of the classes.

        Parameters
        ----------
        X
            As in `predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`; each row adds up to 1.

        Raises
        ------
        NotFittedError, ValueError
            As in `predict`.

        Examples
        --------
        >>> estimator.predict_proba([[-0.9], [0.9]]).round().tolist()
        [[0.0, 1.0], [1.0, 0.0]]
        """
        return softmax(self._evaluate(X))

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """The logarithms of the probabilities, finite even where a probability underflows.

        Parameters
        ----------
        X
            As in `predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.

        Raises
        ------
        NotFittedError, ValueError
            As in `predict`.

        Examples
        --------
        >>> estimator.predict_log_proba([[-0.9], [0.9]]).shape
        (2, 2)
        """
        scores = self._evaluate(X)
        shifted = scores - scores.max(axis=1, keepdims=True)
        found: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return found

    @classmethod
    def from_kan(cls, kan: Kan, classes: ArrayLike | None = None) -> Self:
        """A fitted estimator from a network, for example a loaded one; it has no feature_importances_.

        Parameters
        ----------
        kan : Kan
            A network with classes.
        classes : array_like of shape (n_classes,), optional
            The labels to predict in place of the network's own, which are text, in its order.

        Returns
        -------
        KANClassifier
            Its scores are those of the network.

        Raises
        ------
        InputError
            The network has no classes, or another number of them.

        Examples
        --------
        >>> import kanserve
        >>> from dataclasses import replace
        >>> kan = kanserve.from_formula(["x1", "1 - x1"], ranges={"x1": (0, 1)})
        >>> kan = replace(kan, classes=("high", "low"))
        >>> kanserve.KANClassifier.from_kan(kan, [1, 0]).predict([[0.9], [0.2]]).tolist()
        [1, 0]
        """
        if not kan.classes:
            raise InputError("This network has no classes: use KANRegressor.from_kan.")
        labels = np.asarray(kan.classes if classes is None else classes)
        if labels.shape != (len(kan.classes),):
            raise InputError(f"The network has {len(kan.classes)} classes, got labels of shape {labels.shape}.")
        result = cls._of(kan)
        result.classes_ = labels
        return result
