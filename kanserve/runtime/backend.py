"""The backend interface, the known backends, and the tolerance for golden rows.

A backend is a module of this package, one for each exporter whose files it runs, with one function:

    load(files: Mapping[str, bytes], *, threads: int = 1) -> Backend

`files` are the verified bytes of that kind's folder, by their paths inside it. It raises MissingDependencyError or
NotFoundError if this machine cannot run them (a package or a library is missing), FormatError if they are invalid.
Third-party backends register in the entry-point group `kanserve.backends`.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import GoldenError, NotFoundError
from kanserve.network import evaluate, rounding_error
from kanserve.network.encoding import has_no_slope
from kanserve.network.export_options import Precision
from kanserve.network.kan import Kan
from kanserve.network.training_range import ranges

Array = NDArray[np.float64]

GROUP = "kanserve.backends"
# Our own backends and their modules, the fastest on small batches first.
_MODULES = {"c_source": "c_backend", "onnx_graph": "onnx_backend", "numpy_source": "numpy_backend"}
PREFERENCE = tuple(_MODULES)
DERIVATIVE_ROWS = 8  # the last golden rows, of which one is outside the range and one has a NaN
_EDGE_VALUES = 2**19  # of the network itself that are compared, some 10 ms; of a large one at its last rows only
MAX_GOLDEN_ROWS = 1000  # evaluated at once; the artifact compiler writes 34
# The step, of an input's range, that checks derivatives; the allowed error, of the largest change and of the output.
_STEP, _CHANGE, _ROUNDING = 1e-6, 1e-5, 1e-14
_SAME = 1e-9  # outputs that are computed in two ways
_PART = {"double": 1e-12, "float": 1e-5}  # of an output's scale


class Backend(Protocol):
    """A loaded model. A row in which anything is not finite gives NaN in all of its outputs; nothing raises.

    Examples
    --------
    >>> import kanserve, kanserve.runtime, numpy
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> artifact = kanserve.compile(kan, ["numpy_source"])
    >>> backend: kanserve.runtime.Backend = kanserve.runtime.load_backend(artifact)
    >>> backend.inputs, backend.outputs, backend.dtype
    (1, 1, dtype('float64'))
    """

    @property
    def inputs(self) -> int: ...

    @property
    def outputs(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type it computes in and returns: float32 or float64."""

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """The outputs of rows of raw features. Thread-safe.

        Parameters
        ----------
        x : ndarray of shape (n_samples, n_inputs)
            Of float32 or float64.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
            In `dtype`.

        Examples
        --------
        >>> import kanserve, kanserve.runtime, numpy
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> artifact = kanserve.compile(kan, ["numpy_source"])
        >>> kanserve.runtime.load_backend(artifact).predict(numpy.array([[0.5]])).tolist()
        [[2.0]]
        """


@runtime_checkable
class Differentiating(Backend, Protocol):
    """A backend that also has exact derivatives, if `differentiates`."""

    differentiates: bool

    def differentiate(self, x: bytes, rows: int) -> tuple[bool, bytes, bytes]:
        """Whether all results are finite, the outputs (rows, outputs), and the derivatives (rows, outputs, inputs),
        both as float64 bytes, at the given rows (rows, inputs). Thread-safe."""


@runtime_checkable
class TwiceDifferentiating(Differentiating, Protocol):
    """A backend that also has exact second derivatives, if `differentiates_twice`."""

    differentiates_twice: bool

    def differentiate_twice(self, x: bytes, rows: int) -> tuple[bool, bytes]:
        """Whether all are finite, then second derivatives (rows, outputs, inputs, inputs) as float64 bytes, for rows
        (rows, inputs). Thread-safe."""


class Portable:
    """A backend that can be pickled: the pickle contains its files, from which it is loaded again."""

    _loaded_from: tuple[str, Mapping[str, bytes], int] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._loaded_from is None:
            raise TypeError("This backend was loaded without keeping its files; load it with kanserve.load_model.")
        return _load, self._loaded_from


def keep_files(backend: Portable, name: str, files: Mapping[str, bytes], threads: int) -> None:
    """Remember what a backend was loaded from, so that it can be pickled."""
    object.__setattr__(backend, "_loaded_from", (name, dict(files), threads))


def forget_files(backend: Backend) -> None:
    """Free the files that a backend was loaded from; it can then no longer be pickled."""
    if isinstance(backend, Portable):
        object.__setattr__(backend, "_loaded_from", None)


def _load(name: str, files: Mapping[str, bytes], threads: int) -> Backend:
    return get(name).load(files, threads=threads)


class BackendModule(Protocol):
    """A module that loads backends from files."""

    def load(self, files: Mapping[str, bytes], *, threads: int = 1) -> Backend: ...


def names() -> tuple[str, ...]:
    """The backends of this installation.

    Returns
    -------
    tuple of str
        The preferred ones first; those of other packages, by the entry point `kanserve.backends`, last.

    Examples
    --------
    >>> import kanserve.runtime
    >>> kanserve.runtime.names()[:3]
    ('c_source', 'onnx_graph', 'numpy_source')
    """
    from importlib.metadata import entry_points  # slow to import, and needed only for third-party backends

    found = {*_MODULES, *(entry_point.name for entry_point in entry_points(group=GROUP))}
    return tuple(sorted(found, key=lambda name: (*(name != preferred for preferred in PREFERENCE), name)))


def get(name: str) -> BackendModule:
    """The module of a backend.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    module
        Its `load(files, threads=1)` makes a `Backend` of an artifact's files, without a check against the golden rows.

    Raises
    ------
    NotFoundError
        Unknown backend.

    Examples
    --------
    >>> import kanserve, kanserve.runtime, numpy
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> artifact = kanserve.compile(kan, ["numpy_source"])
    >>> backend = kanserve.runtime.get("numpy_source").load(artifact.part("numpy_source"))
    >>> backend.predict(numpy.array([[0.5]])).tolist()
    [[2.0]]
    """
    if name in _MODULES:
        return cast(BackendModule, import_module(f"kanserve.runtime.{_MODULES[name]}"))  # tested against the protocol
    from importlib.metadata import entry_points

    for entry_point in entry_points(group=GROUP, name=name):
        return cast(BackendModule, entry_point.load())
    raise NotFoundError(f"Unknown backend {name!r:.80}; there are: {', '.join(names())}.")


def check(backend: Backend, kan: Kan, golden: tuple[Array, Array], precision: Precision) -> None:
    """Raise GoldenError if the backend or the network itself disagrees with the golden rows, or there are too many."""
    x, y = golden
    if len(x) > MAX_GOLDEN_ROWS:
        raise GoldenError(f"At most {MAX_GOLDEN_ROWS} golden rows are compared, got {len(x)}. Compile the model again.")
    edges = sum(layer.subnodes * layer.inputs for layer in kan.layers)
    first = max(0, len(x) - max(DERIVATIVE_ROWS, _EDGE_VALUES // edges))
    _compare("The network", evaluate.evaluate(kan, x[first:]), kan, (x[first:], y[first:]), "double", first)
    if (backend.inputs, backend.outputs) != (x.shape[1], y.shape[1]):
        raise GoldenError(
            f"The backend must take {x.shape[1]} inputs and give {y.shape[1]} outputs; "
            f"it has {backend.inputs} and {backend.outputs}."
        )
    _compare("The backend", backend.predict(x), kan, golden, precision)


def check_derivatives(backend: Differentiating, kan: Kan, x: Array) -> None:
    """Raise GoldenError unless the backend's derivatives at rows x match differences of its predictions, and its
    outputs with derivatives match its predictions. These were compared with the network before; comparing the
    derivatives of a large network would take longer than the rest of loading."""
    step = _steps(kan, x)
    y, slopes = _differentiate(backend, kan, x)
    wanted, after, before = (backend.predict(rows) for rows in (x, x + step, x - step))
    with np.errstate(all="ignore"):
        other = np.abs(y - wanted) > _SAME * _size(wanted)
    if np.any(other) or not _is_change(slopes, wanted, after - before, step):
        raise GoldenError("The backend's derivatives are not how its predictions change.")


def check_second_derivatives(backend: TwiceDifferentiating, kan: Kan, x: Array) -> None:
    """Raise GoldenError unless the backend's second derivatives at rows x match differences of its derivatives."""
    step = _steps(kan, x)
    inputs, outputs = len(kan.inputs), len(kan.outputs)
    second = np.frombuffer(backend.differentiate_twice(_bytes(x), len(x))[1], "<f8")
    first, after, before = (
        _differentiate(backend, kan, rows)[1].reshape(len(x), -1) for rows in (x, x + step, x - step)
    )
    if not _is_change(second.reshape(len(x), outputs * inputs, inputs), first, after - before, step):
        raise GoldenError("The backend's second derivatives are not how its derivatives change.")


def _bytes(x: Array) -> bytes:
    return np.ascontiguousarray(x, "<f8").tobytes()


def _differentiate(backend: Differentiating, kan: Kan, x: Array) -> tuple[Array, Array]:
    """The outputs (N, outputs) and the derivatives (N, outputs, inputs)."""
    _, values, slopes = backend.differentiate(_bytes(x), len(x))
    y = np.frombuffer(values, "<f8").reshape(len(x), -1)
    return y, np.frombuffer(slopes, "<f8").reshape(*y.shape, len(kan.inputs))


def _steps(kan: Kan, x: Array) -> Array:
    """Small steps for finite differences, in another direction for each row."""
    low, high = ranges(kan).T
    signs = np.sign(np.cos(1.0 + np.arange(x.size))).reshape(x.shape)
    signs[has_no_slope(kan, x)] = 0.0
    steps: Array = np.where(high > low, high - low, 1.0) * _STEP * signs
    return steps


def _size(values: Array) -> Array:
    return rounding_error.scale(np.where(np.isfinite(values), values, 0.0))


def _is_change(slopes: Array, values: Array, difference: Array, step: Array) -> bool:
    """Whether slopes (N, M, inputs) match the change of values (N, M) in a step back and forth, NaN included."""
    with np.errstate(all="ignore"):
        change = np.einsum("noi,ni->no", slopes, step)
        most = np.nan_to_num(np.einsum("noi,ni->no", np.abs(slopes), np.abs(step)), posinf=0.0).max(axis=0)
        wrong = np.abs(difference / 2 - change) > _CHANGE * most + _ROUNDING * _size(values)
    return not (np.any(wrong) or np.isfinite(slopes[np.isnan(values).any(axis=1)]).any())


def tolerance(kan: Kan, x: Array, y: Array, precision: Precision) -> Array:
    """The tolerance (N, outputs) around the golden rows: 1e-12 (double) or 1e-5 (float) of the output's scale, or 64
    times the effect of rounding on that row, whichever is larger."""
    return rounding_error.allow(kan, x, y, precision, _PART[precision])


def _compare(
    who: str, got: NDArray[Any], kan: Kan, golden: tuple[Array, Array], precision: Precision, first: int = 0
) -> None:
    """Raise GoldenError for a wrong output; the rows are counted from `first`."""
    x, wanted = golden
    if got.shape != wanted.shape:
        raise GoldenError(f"{who} must answer the golden rows with shape {wanted.shape}, got {got.shape}.")
    # The effect of rounding is computed only if needed: it takes a dozen evaluations.
    if not _wrong(got, wanted, _PART[precision] * rounding_error.scale(wanted)).any():
        return
    allowed = tolerance(kan, x, wanted, precision)
    wrong = _wrong(got, wanted, allowed)
    if wrong.any():
        row, output = np.argwhere(wrong)[0]
        raise GoldenError(
            f"{who} disagrees with golden row {first + row}: output {output} must be {float(wanted[row, output])!r} "
            f"± {allowed[row, output]:.1g}, got {float(got[row, output])!r}. Compile the model again."
        )


def _wrong(got: NDArray[Any], wanted: Array, allowed: Array) -> NDArray[np.bool_]:
    with np.errstate(all="ignore"):
        wrong: NDArray[np.bool_] = ~((np.abs(got - wanted) <= allowed) | (np.isnan(got) & np.isnan(wanted)))
    return wrong
