"""scikit-learn estimators: a network, and with symbolic=True a formula.

    KANRegressor(hidden=(5,)).fit(X, y).predict(X)
    KANClassifier().fit(X, y).predict_proba(X)
    KANRegressor(symbolic=True, random_state=0).fit(frame, y).formula_      a sympy expression in the columns' names

    from_pipeline(pipeline).export(folder)                                  with scalers, encoders and imputers

They follow scikit-learn's conventions. The fitted network is `kan_`, which all other functions take. This needs the
extra `train`.
"""

import warnings

from kanserve.errors import MissingDependencyError

try:
    with warnings.catch_warnings():
        # Of joblib, which scikit-learn imports: nothing is parallel here unless `n_jobs` asks for it, which says so.
        warnings.filterwarnings("ignore", ".*joblib will operate in serial mode")
        import sklearn.utils  # noqa: F401  (for a clear error)
except ImportError:
    raise MissingDependencyError("scikit-learn", "train") from None

from kanserve.estimator.classifier import KANClassifier
from kanserve.estimator.extrapolation import ExtrapolationWarning
from kanserve.estimator.pipelines import export_pipeline, from_pipeline
from kanserve.estimator.regressor import KANRegressor

__all__ = ["ExtrapolationWarning", "KANClassifier", "KANRegressor", "export_pipeline", "from_pipeline"]
