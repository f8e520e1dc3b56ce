"""The exception hierarchy. Every message says what was expected, what was given and what to do.

    KanserveError
    ├── InputError (also ValueError)      what the caller gave cannot be used
    │   ├── NetworkError                  arrays that do not make a network
    │   ├── DataError                     a table or rows that cannot be trained on or predicted from
    │   ├── CheckpointError               a network of another library that is broken, or has no equal here
    │   ├── TensorError                   a tensor of a request: type, rank, dimension, bytes
    │   └── InvalidNameError              a name of a model, a file or a version that is not allowed
    ├── NotFoundError                     a model, a version, an output or a file that is not there
    ├── ArtifactError                     a stored model that cannot be trusted
    │   ├── FormatError                   not in the format, or of an unknown version of it
    │   ├── IntegrityError                a size or a checksum that differs from the manifest's
    │   ├── SignatureError                not signed, or by nobody who is trusted
    │   └── GoldenError                   a backend that disagrees with the golden rows
    ├── ConflictError                     something is there already: a version, a file, a port
    ├── ExportError                       a network that a format cannot express
    ├── FormulaError                      a formula that cannot be given, or differs from its network
    ├── TrainingError                     a fit that cannot start or has no finite result
    ├── MissingDependencyError            a package of an extra that is not installed
    ├── BusyError                         the queue is full
    ├── DrainingError                     the server is stopping and takes no new work
    ├── AccessError                       a caller who may not do this
    │   └── UnauthenticatedError          a caller who has not shown who it is
    ├── DeadlineError                     the caller's deadline has passed
    └── UnreachableError                  no server answers at an address

The domain knows nothing of gRPC or of exit codes: `serve/status.py` and `cli.py` map this tree.
"""


def reason(said: object) -> str:
    """The message of another package's error, on one line without the full stop."""
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    text = (lines[0] if lines else type(said).__name__)[:200].rstrip(".:")
    return f"it has no entry {text}" if isinstance(said, KeyError) else text


class KanserveError(Exception):
    """The root: catch it to catch everything that kanserve raises on purpose.

    Every message says what was expected, what was given and what to do. The head of `kanserve.errors` lists the
    classes.

    Examples
    --------
    >>> import kanserve
    >>> try:
    ...     kanserve.create([2])
    ... except kanserve.KanserveError as error:
    ...     print(type(error).__name__)
    NetworkError
    """


class InputError(KanserveError, ValueError):
    """What the caller gave cannot be used."""


class NetworkError(InputError):
    """Arrays that do not make a network."""


class DataError(InputError):
    """A table or rows that cannot be trained on or predicted from."""


class CheckpointError(InputError):
    """A network of another library that cannot be read, or that has no equal here."""


class TensorError(InputError):
    """A tensor of a request has the wrong type, rank, dimension or number of bytes."""


class InvalidNameError(InputError):
    """A name of a model, a version or a file that is not allowed."""


class NotFoundError(KanserveError):
    """A model, a version, an output or a file that is not there."""


class ArtifactError(KanserveError):
    """A stored model that cannot be trusted."""


class FormatError(ArtifactError):
    """Not in the format, or of an unknown version of it."""


class IntegrityError(ArtifactError):
    """A file's size or checksum differs from the manifest's."""


class SignatureError(ArtifactError):
    """A version is not signed, or not by a key that is trusted."""


class GoldenError(ArtifactError):
    """A backend disagrees with the golden rows of its artifact."""


class ConflictError(KanserveError):
    """Something is there already: a version, a file, a port."""


class ExportError(KanserveError):
    """A network that a format cannot express."""


class FormulaError(KanserveError):
    """A formula that cannot be given, or that differs from its network."""


class TrainingError(KanserveError):
    """A fit that cannot start or has no finite result."""


class MissingDependencyError(KanserveError):
    """A package is not installed, of one of kanserve's extras or, without one, of others."""

    def __init__(self, package: str, extra: str = "") -> None:
        wanted = f"'kanserve[{extra}]'" if extra else package
        super().__init__(f"This needs the package {package}. Install it with: pip install {wanted}")
        self.package = package
        self.extra = extra


class BusyError(KanserveError):
    """The queue is full."""


class DrainingError(KanserveError):
    """The server is stopping and takes no new work."""


class AccessError(KanserveError):
    """The caller may not do this."""


class UnauthenticatedError(AccessError):
    """The caller has not shown who it is: no token and no certificate, or one that is not known."""


class DeadlineError(KanserveError):
    """The caller's deadline has passed."""


class UnreachableError(KanserveError):
    """No server answers at an address."""
