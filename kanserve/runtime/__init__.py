"""Runs artifacts: chooses a backend, loads it from verified bytes and checks it against the golden rows."""

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
    """A backend that agrees with the golden rows: the named one, or the first that this machine can load.

    NotFoundError if none can be loaded: a package is missing, or a library is for another machine or a newer system.
    GoldenError if the backend disagrees; no other is tried then, because such an artifact is broken.
    """
    if name is None:
        return load_preferred(artifact, threads)[1]
    return _agreeing(artifact, get(name).load(artifact.part(name), threads=threads))


def load_preferred(artifact: Artifact, threads: int = 1) -> tuple[str, Backend]:
    """The name of the first backend that this machine can load, and the backend; errors as `load_backend`."""
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
