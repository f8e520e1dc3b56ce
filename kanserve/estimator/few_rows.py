"""The outputs of a network for the rows that an estimator predicts: few rows by the network's exported NumPy module.
For one row, `evaluate` spends nearly all of its time in Python's overhead; the exported module takes a few microseconds
and gives equal results up to rounding."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import KanserveError
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan
from kanserve.network.signal_shares import find_used_inputs
from kanserve.network.training_range import fill_unused
from kanserve.runtime import numpy_backend
from kanserve_exporters import numpy_source

Array = NDArray[np.float64]
MOST_NUMBERS = 4_000_000  # edge values that `evaluate` holds at once: 32 MB
FEW = 16  # rows: one takes .006 ms instead of .36, and up to here few predictions pay for the module
MOST_COEFFICIENTS = 20_000  # of the splines: the source of a larger network takes a tenth of a second to write and read

# The function of a network's module, if it has one, and whether the outputs depend on all inputs. A function that holds
# its network would keep it here for ever.
_modules: WeakKeyDictionary[Kan, tuple[Callable[[Array], Array] | None, bool]] = WeakKeyDictionary()


def outputs(kan: Kan, x: Array) -> Array:
    """The outputs (N, outputs) of a network at rows x (N, inputs), where inputs that no output depends on may be
    missing."""
    if len(x) > FEW:
        return in_blocks(kan, fill_unused(kan, x))
    if kan not in _modules:
        _modules[kan] = _module(kan), bool(find_used_inputs(kan).all())
    run, uses_all = _modules[kan]
    filled = x if uses_all else fill_unused(kan, x)
    return evaluate(kan, filled) if run is None else run(filled)


def in_blocks(kan: Kan, x: Array) -> Array:
    """Like `outputs`, computed in blocks of rows."""
    rows = max(1, MOST_NUMBERS // max(layer.subnodes * layer.inputs for layer in kan.layers))
    return np.concatenate([evaluate(kan, x[start : start + rows]) for start in range(0, len(x), rows)])


def _module(kan: Kan) -> Callable[[Array], Array] | None:
    """The predict function of the network's exported NumPy module; None if that is impossible or the network is
    large."""
    if sum(layer.coefficients.size for layer in kan.layers) <= MOST_COEFFICIENTS:
        try:
            files = numpy_source.export(kan, ExportOptions())
            return numpy_backend.load(files).predict
        except KanserveError:  # such as numbers that underflow
            pass
    return None
