"""Run artifacts: choose a backend, load it from verified bytes, and check it against the golden rows."""

import logging

from kanserve.artifact.format import Artifact
from kanserve.errors import FormatError, GoldenError, MissingDependencyError, NotFoundError
from kanserve.runtime.backend import (
    DERIVATIVE_ROWS,
    PREFERENCE,
    Backend,
    Differentiating,
    TwiceDifferentiating,
    check,
    check_derivatives,
    check_second_derivatives,
    get,
    names,
)

__all__ = ["Backend", "get", "load_backend", "load_preferred", "names"]


def load_backend(artifact: Artifact, name: str | None = None, threads: int = 1) -> Backend:
    """Load a backend of an artifact, and check that it agrees with the golden rows.

    Parameters
    ----------
    artifact : Artifact
        As `kanserve.compile` or `kanserve.repository.read` gives it.
    name : str, optional
        The backend; by default the first that this machine can load.
    threads : int, default=1
        Threads that a call may take.

    Returns
    -------
    Backend
        With `predict(x)`, `inputs`, `outputs` and `dtype`.

    Raises
    ------
    NotFoundError
        None can be loaded: the artifact lacks it, or a library is for another machine or a newer system.
    MissingDependencyError
        A package of the named one is not installed.
    GoldenError
        The backend disagrees; no other is tried then, because such an artifact is broken.

    Examples
    --------
    >>> import kanserve, kanserve.runtime, numpy
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> artifact = kanserve.compile(kan, ["numpy_source"])
    >>> kanserve.runtime.load_backend(artifact, "numpy_source").predict(numpy.array([[0.5]])).tolist()
    [[2.0]]
    """
    if name is None:
        return load_preferred(artifact, threads)[1]
    return _agreeing(artifact, get(name).load(artifact.part(name), threads=threads))


def load_preferred(artifact: Artifact, threads: int = 1) -> tuple[str, Backend]:
    """Load the first backend that this machine can load, as `load_backend` does.

    Parameters
    ----------
    artifact : Artifact
        As `kanserve.compile` or `kanserve.repository.read` gives it.
    threads : int, default=1
        Threads that a call may take.

    Returns
    -------
    tuple of str and Backend
        Its name, and the backend.

    Raises
    ------
    NotFoundError
        None can be loaded.
    GoldenError
        The backend disagrees with the golden rows.

    Examples
    --------
    >>> import kanserve, kanserve.runtime, numpy
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> artifact = kanserve.compile(kan, ["numpy_source"])
    >>> kanserve.runtime.load_preferred(artifact)[0]
    'numpy_source'
    """
    reasons = []
    there = set(artifact.backends)
    # Third-party backends come after ours, and are looked up only if the artifact has one.
    known = PREFERENCE if there <= set(PREFERENCE) else names()
    for name in (format_name for format_name in known if format_name in there):
        try:
            backend = get(name).load(artifact.part(name), threads=threads)
        except (MissingDependencyError, NotFoundError, FormatError) as error:
            reasons.append(f"{name}: {error}")
            continue
        return name, _agreeing(artifact, backend)
    raise NotFoundError(
        f"No backend of {artifact.manifest.name!r} can run here. "
        + (" ".join(reasons) or f"It has {', '.join(artifact.backends) or 'none'}; known are {', '.join(names())}.")
    )


def _agreeing(artifact: Artifact, backend: Backend) -> Backend:
    kan, golden = artifact.kan(), artifact.golden()
    check(backend, kan, golden, artifact.manifest.precision)
    rows = golden[0][-DERIVATIVE_ROWS:]
    if isinstance(backend, Differentiating) and backend.differentiates:
        try:
            check_derivatives(backend, kan, rows)
        except GoldenError as error:
            backend.differentiates = False
            if isinstance(backend, TwiceDifferentiating):
                backend.differentiates_twice = False
            _warn(artifact, "derivatives", error)
    if isinstance(backend, TwiceDifferentiating) and backend.differentiates_twice:
        try:
            check_second_derivatives(backend, kan, rows)
        except GoldenError as error:
            backend.differentiates_twice = False
            _warn(artifact, "second derivatives", error)
    return backend


def _warn(artifact: Artifact, what: str, error: GoldenError) -> None:
    logging.getLogger("kanserve").warning(
        "%s of %r are computed by the reference, slowly: %s Compile the model again.",
        *(what, artifact.manifest.name, error),
    )
