"""The base class of both estimators: training, simplification, formulas and export."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from kanserve.data.dataset import Dataset
from kanserve.errors import FormulaError, InputError, MissingDependencyError, TrainingError, warn
from kanserve.estimator.extrapolation import warn_of_extrapolation
from kanserve.estimator.few_rows import outputs
from kanserve.estimator.hidden_choice import Plan, automatic_plan
from kanserve.estimator.parameters import grids_of, networks_of, read_hidden, seed_of
from kanserve.estimator.table_columns import check_missing, encode_table
from kanserve.formula import Formula, formulas
from kanserve.formula.printing.symbolic import expression
from kanserve.network.encoding import without_encoding
from kanserve.network.fitted_rows import hash_rows, smallest_hashes
from kanserve.network.importances import input_importances
from kanserve.network.kan import Kan
from kanserve.plot.notebook import network_page
from kanserve.simplification import simplify
from kanserve.simplification.architecture_search import discover
from kanserve.train import average, fit
from kanserve.train.constant_guard import shrunk_to_the_shares
from kanserve.train.encoded_data import is_encoded
from kanserve.train.encoding_search import in_numbers
from kanserve.train.fit_warnings import TrainingWarning
from kanserve.train.outer_layers import without_outer_layers
from kanserve.train.problem import GRIDS

SEEDS = 2**31


def mean_of_fits(begin: Kan, data: Dataset, count: int, seed: int, options: Mapping[str, Any]) -> Kan:
    """Fit the network `count` times with different seeds and return the average. All fits use the category encoding
    learned by the first. Each has its own held-out rows; a warning of a poor fit is given only if more than half of the
    fits give one."""
    if count == 1:
        alone: Kan = fit(begin, data, seed=seed, **options)
        return alone
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        first: Kan = fit(begin, data, seed=seed, **options)
    numbers = in_numbers(data, first.inputs) if is_encoded(data) else data
    fits, poor = [without_encoding(first)], [text for text in map(_judgement, said) if text]
    votes = int(bool(poor))
    for other in np.random.default_rng(seed).integers(SEEDS, size=count - 1).tolist():
        with warnings.catch_warnings(record=True) as others:
            warnings.simplefilter("always")
            fits.append(fit(begin, numbers, seed=other, **options))
        later = [text for text in map(_judgement, others) if text]
        poor, votes = poor or later, votes + bool(later)
    for warning in said:
        if not _judgement(warning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if votes > count - votes:
        warn(f"{poor[0]} So say {votes} of {count} networks.", TrainingWarning)
    return replace(average(fits), inputs=first.inputs, fitted_rows=first.fitted_rows)


def _judgement(said: warnings.WarningMessage) -> str:
    """The text of a warning that the network is poor (which may be by chance of its held-out rows); "" for other
    warnings."""
    text = str(said.message)
    return text if issubclass(said.category, TrainingWarning) and text.startswith("The network ") else ""


Array = NDArray[np.float64]
PAGE_BYTES = 12_000  # of the picture below the diagram of scikit-learn, which has 35 kB


class NetworkEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn carries no types
    """The common base of KANRegressor and KANClassifier, which document the parameters."""

    options: ClassVar[tuple[str, ...]] = ()
    """The parameters that are passed to `kanserve.fit` under the same name."""

    hidden: Any
    n_networks: Any
    grid: int | Sequence[int] | str
    order: int
    symbolic: bool
    monotonic_cst: Any
    tolerance: Any
    random_state: Any
    progress: bool | Callable[[Any], None]
    kan_: Kan
    feature_importances_: Array

    def _learn(self, data: Dataset) -> None:
        """Train, or find formulas if symbolic=True; sets the fitted attributes."""
        seed = seed_of(self.random_state)
        if self.monotonic_cst is not None and (self.symbolic or _is(self.hidden, "fewest")):
            raise InputError(
                "monotonic_cst is for networks of splines: not with symbolic=True, nor with hidden='fewest'."
            )
        try:
            if self.symbolic:
                kan = self._symbolic(data, seed)
            else:
                plan = self._plan(data, seed)
                kan = self._network(data, seed, plan)
                self._after_fit(data, seed, plan)
        except TrainingError as error:  # scikit-learn's convention is ValueError
            raise InputError(str(error)) from error
        self.kan_ = replace(kan, fitted_rows=smallest_hashes(hash_rows(data)))
        self.feature_importances_ = input_importances(kan, data.x, data.weights)

    def _symbolic(self, data: Dataset, seed: int) -> Kan:
        """Train and simplify; the result has splines only where the data require them."""
        kan = self._network(data, seed, self._plan(data, seed))
        return simplify(kan, data, tolerance=self.tolerance, seed=seed, progress=self.progress)

    def _after_fit(self, data: Dataset, seed: int, plan: Plan) -> None:
        """A hook for further computations on the samples after the fit."""

    def _network(self, data: Dataset, seed: int, plan: Plan) -> Kan:
        """Fit `plan.networks` networks with the hidden layers of `plan.hidden`, and return their average."""
        if _is(plan.hidden, "fewest"):
            # Classes as answers 0 and 1: least squares finds the width they need, but not the edges.
            rows = replace(data, classes=())
            found = discover(rows, tolerance=self.tolerance, seed=seed, progress=self.progress)
            if not data.classes:
                return found
            plan = plan._replace(hidden=read_hidden(found))
        automatic = isinstance(self.grid, str) and self.grid == "auto"
        grids = GRIDS if automatic else grids_of(self.grid)
        begin = plan.structure(data.x.shape[1], data.y.shape[1], grids[0], self.order, seed)
        options = {"grid": "auto" if automatic else grids, "progress": self.progress, **self._fit_arguments()}
        if options["starts"] is None:
            options["starts"] = plan.starts
        kan = mean_of_fits(begin, data, plan.networks, seed, options)
        return shrunk_to_the_shares(kan, data, plan.share)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.categorical = not self.symbolic
        return tags

    def _fit_arguments(self) -> dict[str, Any]:
        """The arguments of `kanserve.fit`."""
        return {name: getattr(self, name) for name in self.options}

    def _plan(self, data: Dataset, seed: int) -> Plan:
        """The nodes of each hidden layer, and the number of networks to average."""
        if not _is(self.hidden, "auto"):
            return Plan(self.hidden, networks_of(self.n_networks, 1))
        plan = automatic_plan(data, self.order, self._fit_arguments(), seed, formulas=self.symbolic)
        count = networks_of(self.n_networks, plan.networks)
        return plan._replace(networks=count, starts=plan.starts if count > 1 else None)

    def _evaluate(self, X: ArrayLike) -> Array:
        """The outputs (N, outputs) of the network."""
        x = self._check_rows(X)
        return outputs(self.kan_, x)

    def _check_rows(self, X: ArrayLike) -> Array:
        """Validate the rows, and convert them to the network's codes (N, inputs)."""
        check_is_fitted(self)
        if self._is_plain(X):
            warn_of_extrapolation(self.kan_, X)
            return X
        X, _ = encode_table(X, self.kan_)
        x: Array = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        check_missing(self.kan_, x)
        warn_of_extrapolation(self.kan_, x)
        return x

    def _is_plain(self, X: Any) -> TypeGuard[Array]:
        """Whether X needs no conversion, naming or checks. For a single row, checking takes ten times as long as
        predicting."""
        return (
            type(X) is np.ndarray
            and X.dtype == np.float64
            and X.ndim == 2
            and X.shape[0] > 0
            and X.shape[1] == self.n_features_in_
            and not hasattr(self, "feature_names_in_")
            and bool(np.isfinite(X).all())
        )

    def _repr_html_inner(self) -> str:
        """scikit-learn's diagram of the parameters, with the fitted network below."""
        return f"{super()._repr_html_inner()}{self._network_page()}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle: dict[str, str] = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += self._network_page()
        return bundle

    def _network_page(self) -> str:
        return network_page(self.kan_, PAGE_BYTES) if hasattr(self, "kan_") else ""

    @property
    def formula_(self) -> Any:
        """The network as a sympy expression, or a list of them for several outputs or classes.

        Its symbols are the columns passed to `fit`, from `feature_names_in_` or x1, x2, ...: after a scaler in a
        pipeline they are in the scaler's units, and have names with set_output(transform="pandas").

        Raises
        ------
        AttributeError
            There is no formula: `symbolic=False`, a formula that is too large, or no sympy.

        Examples
        --------
        >>> import numpy as np
        >>> from kanserve import KANRegressor
        >>> X = np.linspace(1, 2, 50)[:, None]
        >>> KANRegressor(symbolic=True, random_state=0, max_fits=50).fit(X, 3 * X[:, 0] ** 2).formula_
        3*x1**2
        """
        found = self._formulas()
        try:
            expressions = [expression(formula) for formula in found]
        except (FormulaError, MissingDependencyError) as error:
            raise AttributeError(f"formula_ is not available: {error}") from error
        return expressions[0] if len(expressions) == 1 else expressions

    @property
    def closed_form_(self) -> bool:
        """Whether `formula_` has no splines left; each would be an undefined function s_layer_subnode_input.

        Examples
        --------
        >>> import numpy as np
        >>> from kanserve import KANRegressor
        >>> X = np.linspace(1, 2, 50)[:, None]
        >>> KANRegressor(symbolic=True, random_state=0, max_fits=50).fit(X, 3 * X[:, 0] ** 2).closed_form_
        True
        """
        return all(formula.closed_form for formula in self._formulas())

    def _formulas(self) -> tuple[Formula, ...]:
        # Unavailable attributes must raise AttributeError: scikit-learn's displays read all of them.
        check_is_fitted(self)
        if not self.symbolic:
            raise AttributeError(
                "formula_ and closed_form_ come with symbolic=True; kanserve.formulas(estimator.kan_) also writes down "
                "a network of splines."
            )
        try:
            return formulas(self.kan_, strict=False)
        except FormulaError as error:
            raise AttributeError(f"formula_ is not available: {error}") from error

    def export(
        self,
        folder: str | os.PathLike[str],
        formats: Sequence[str] = ("onnx_graph", "c_source", "numpy_source"),
        **options: Any,
    ) -> tuple[Path, ...]:
        """Write the fitted network as source, graph and library files, by `self.kan_.export(folder, formats, ...)`.

        Parameters
        ----------
        folder : str or path
            A new folder; each format gets a folder of its own in it.
        formats : sequence of str
            One or more of "onnx_graph", "c_source", "numpy_source", "javascript_source" and "wasm_module".
        **options
            name, precision, options and targets, as `kanserve.export` takes them.

        Returns
        -------
        tuple of Path
            The files that were written, sorted.

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ConflictError
            The folder is there already.

        Examples
        --------
        >>> import kanserve, tempfile
        >>> kan = kanserve.from_formula("2*x1 + 1", ranges={"x1": (0, 1)})
        >>> estimator = kanserve.KANRegressor.from_kan(kan)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = estimator.export(f"{folder}/line", ["numpy_source"])
        """
        check_is_fitted(self)
        return self.kan_.export(folder, formats, **options)

    @classmethod
    def _of(cls, kan: Kan) -> Self:
        """Make a fitted estimator from a network."""
        result = cls()
        core, _ = without_outer_layers(kan)
        result.set_params(
            hidden=read_hidden(core),
            grid=core.layers[0].intervals,
            order=core.layers[0].order,
            symbolic=kan.symbolic,
        )
        result.kan_ = kan
        result.n_features_in_ = len(kan.inputs)
        names = [variable.name for variable in kan.inputs]
        if names != [f"x{number + 1}" for number in range(len(names))]:
            result.feature_names_in_ = np.array(names, dtype=object)
        return result


def _is(hidden: Any, word: str) -> bool:
    """Whether `hidden` is this word; it may also be an array, whose comparison with a text has no truth value."""
    return isinstance(hidden, str) and hidden == word
