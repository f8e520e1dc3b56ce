"""Warn of predictions far outside the training range, once per network."""

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import warn
from kanserve.network.kan import Kan
from kanserve.network.signal_shares import find_used_inputs
from kanserve.network.training_range import describe_outside, has_range, ranges
from kanserve.train.outer_layers import without_outer_layers

Array = NDArray[np.float64]

FAR = 0.1
"""Of an input's range, from which on a value outside warns. Of a random test set some rows are nearly always outside by
less, where the curve goes on along its last slope for a short way."""


class ExtrapolationWarning(UserWarning):
    """Rows to predict are far outside the training range, where curves go on straight: the answers may be far off.

    Examples
    --------
    >>> import numpy as np, warnings
    >>> from kanserve import KANRegressor
    >>> X = np.linspace(0, 1, 30)[:, None]
    >>> model = KANRegressor((), random_state=0).fit(X, np.exp(X[:, 0]))
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     found = model.predict([[0.5], [20.0]])
    >>> said[0].category.__name__
    'ExtrapolationWarning'
    """


_far_ends: WeakKeyDictionary[Kan, tuple[Array, Array] | None] = WeakKeyDictionary()
"""The ends (inputs,) of each network beyond which a value is far outside; None after its warning."""


def warn_of_extrapolation(kan: Kan, x: Array) -> None:
    """Give an ExtrapolationWarning if a value of x (N, inputs) is far outside the training range, once per network."""
    if kan not in _far_ends:
        _far_ends[kan] = _ends_of(kan)
    ends = _far_ends[kan]
    if ends is None or not ((x < ends[0]) | (x > ends[1])).any():
        return
    _far_ends[kan] = None
    warn(
        f"{describe_outside(kan, x)}. Beyond it curves go on as straight lines, so these predictions may be far off. "
        "Train with rows from there, or pass extrapolation='clip', which keeps each input in its range.",
        ExtrapolationWarning,
    )


def _ends_of(kan: Kan) -> tuple[Array, Array] | None:
    """The limits beyond which a value is far outside, infinite if unknown or pruned; None if the inputs are clipped."""
    if without_outer_layers(kan)[1].clips:
        return None
    low, high = ranges(kan).T
    far = FAR * (high - low)
    numbers = has_range(kan) & find_used_inputs(kan) & ~np.array([bool(variable.categories) for variable in kan.inputs])
    return np.where(numbers, low - far, -np.inf), np.where(numbers, high + far, np.inf)
