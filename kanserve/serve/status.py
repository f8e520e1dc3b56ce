"""The tree of errors as gRPC status codes, in one table.

The trailing metadata names the error's class, so that our client raises the same one.
"""

from dataclasses import dataclass
from typing import NoReturn

import grpc

from kanserve import errors

ERROR_KEY = "kanserve-error"  # the client reads it
_LONGEST = 500  # characters; a text beyond the peer's metadata limit would arrive as another error

_Code = grpc.StatusCode

CODES: dict[type[errors.KanserveError], grpc.StatusCode] = {
    errors.KanserveError: _Code.INTERNAL,
    errors.InputError: _Code.INVALID_ARGUMENT,
    errors.NetworkError: _Code.INVALID_ARGUMENT,
    errors.DataError: _Code.INVALID_ARGUMENT,
    errors.CheckpointError: _Code.INVALID_ARGUMENT,
    errors.TensorError: _Code.INVALID_ARGUMENT,
    errors.InvalidNameError: _Code.INVALID_ARGUMENT,
    errors.NotFoundError: _Code.NOT_FOUND,
    errors.ArtifactError: _Code.FAILED_PRECONDITION,
    errors.FormatError: _Code.FAILED_PRECONDITION,
    errors.IntegrityError: _Code.FAILED_PRECONDITION,
    errors.SignatureError: _Code.FAILED_PRECONDITION,
    errors.GoldenError: _Code.FAILED_PRECONDITION,
    errors.ConflictError: _Code.ALREADY_EXISTS,
    errors.ExportError: _Code.FAILED_PRECONDITION,
    errors.FormulaError: _Code.FAILED_PRECONDITION,
    errors.TrainingError: _Code.FAILED_PRECONDITION,
    errors.MissingDependencyError: _Code.FAILED_PRECONDITION,
    errors.BusyError: _Code.RESOURCE_EXHAUSTED,
    errors.DrainingError: _Code.UNAVAILABLE,
    errors.AccessError: _Code.PERMISSION_DENIED,
    errors.UnauthenticatedError: _Code.UNAUTHENTICATED,
    errors.DeadlineError: _Code.DEADLINE_EXCEEDED,
    errors.UnreachableError: _Code.UNAVAILABLE,
}


@dataclass(frozen=True)
class Failure:
    """The status that a client gets."""

    code: grpc.StatusCode
    text: str
    error: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return ((ERROR_KEY, self.error),) if self.error else ()


INTERNAL = Failure(_Code.INTERNAL, "internal error")


def failure(error: BaseException) -> Failure:
    """The status for an error: with its own text if it was raised on purpose, else only "internal error"."""
    kind = next((ancestor for ancestor in type(error).__mro__ if ancestor in CODES), None)
    if kind is None or CODES[kind] is _Code.INTERNAL:
        return INTERNAL
    return Failure(CODES[kind], str(error)[:_LONGEST], kind.__name__)


def abort(context: grpc.ServicerContext, failed: Failure) -> NoReturn:
    """End a call with a failure."""
    context.set_trailing_metadata(failed.metadata)
    context.abort(failed.code, failed.text)
    raise AssertionError("grpc's abort raises")
