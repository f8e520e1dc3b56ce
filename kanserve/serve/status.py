"""The tree of errors as gRPC status codes, in one table.

The trailing metadata names the error's class, so that our client raises the same one.
"""

from dataclasses import dataclass
from enum import IntEnum

from kanserve import errors

ERROR_KEY = "kanserve-error"  # the client reads it
_LONGEST = 500  # characters; a text beyond the peer's metadata limit would arrive as another error


class Code(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


CODES: dict[type[errors.KanserveError], Code] = {
    errors.KanserveError: Code.INTERNAL,
    errors.InputError: Code.INVALID_ARGUMENT,
    errors.NetworkError: Code.INVALID_ARGUMENT,
    errors.DataError: Code.INVALID_ARGUMENT,
    errors.CheckpointError: Code.INVALID_ARGUMENT,
    errors.TensorError: Code.INVALID_ARGUMENT,
    errors.InvalidNameError: Code.INVALID_ARGUMENT,
    errors.NotFoundError: Code.NOT_FOUND,
    errors.ArtifactError: Code.FAILED_PRECONDITION,
    errors.FormatError: Code.FAILED_PRECONDITION,
    errors.IntegrityError: Code.FAILED_PRECONDITION,
    errors.SignatureError: Code.FAILED_PRECONDITION,
    errors.GoldenError: Code.FAILED_PRECONDITION,
    errors.ConflictError: Code.ALREADY_EXISTS,
    errors.ExportError: Code.FAILED_PRECONDITION,
    errors.FormulaError: Code.FAILED_PRECONDITION,
    errors.TrainingError: Code.FAILED_PRECONDITION,
    errors.MissingDependencyError: Code.FAILED_PRECONDITION,
    errors.BusyError: Code.RESOURCE_EXHAUSTED,
    errors.DrainingError: Code.UNAVAILABLE,
    errors.AccessError: Code.PERMISSION_DENIED,
    errors.UnauthenticatedError: Code.UNAUTHENTICATED,
    errors.DeadlineError: Code.DEADLINE_EXCEEDED,
    errors.UnreachableError: Code.UNAVAILABLE,
}


@dataclass(frozen=True)
class Failure:
    """The status that a client gets."""

    code: Code
    text: str
    error: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return ((ERROR_KEY, self.error),) if self.error else ()


INTERNAL = Failure(Code.INTERNAL, "internal error")


def failure(error: BaseException) -> Failure:
    """The status for an error: with its text if it was raised on purpose, else only "internal error"."""
    kind = next((ancestor for ancestor in type(error).__mro__ if ancestor in CODES), None)
    if kind is None or CODES[kind] is Code.INTERNAL:
        return INTERNAL
    return Failure(CODES[kind], str(error)[:_LONGEST], kind.__name__)


class AbortedError(Exception):
    """Ends a call with a failure, which the transport sends to the caller."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure
