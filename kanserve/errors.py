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

import sys
import warnings


def warn(text: str, category: type[Warning]) -> None:
    """Warn at the line of the user's that called kanserve, whatever lies between them here."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def reason(said: object) -> str:
    """The message of another package's error, on one line without its full stop."""
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
    """What the caller gave cannot be used.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> try:
    ...     kanserve.Session(kan, ([[0.0], [1.0]], [1.0, 3.0])).undo()
    ... except kanserve.errors.InputError as error:
    ...     print(type(error).__name__)
    InputError
    """


class NetworkError(InputError):
    """Arrays that do not make a network.

    Examples
    --------
    >>> import kanserve
    >>> try:
    ...     kanserve.create([2])
    ... except kanserve.errors.NetworkError as error:
    ...     print(error)
    A shape is [inputs, nodes, .., outputs], at least two numbers; got [2].
    """


class DataError(InputError):
    """A table or rows that cannot be trained on or predicted from.

    Examples
    --------
    >>> import kanserve
    >>> try:
    ...     kanserve.fit([1, 1], ([[0.0], [float("inf")]], [1.0, 2.0]))
    ... except kanserve.errors.DataError as error:
    ...     print(error)
    Samples need finite numbers: input 'x1' is inf in row 2 (1 such values). Drop or fill those rows.
    """


class CheckpointError(InputError):
    """A network of another library that cannot be read, or that has no equal here.

    Examples
    --------
    >>> import kanserve
    >>> try:
    ...     kanserve.from_checkpoint({"weight": [1.0]})
    ... except kanserve.errors.CheckpointError as error:
    ...     print(error)
    the state_dict: 'weight' is a list, not an array; give the state_dict alone.
    """


class TensorError(InputError):
    """A tensor of a request has the wrong type, rank, dimension or number of bytes.

    Examples
    --------
    >>> import kanserve
    >>> try:  # doctest: +SKIP
    ...     client.infer("houses", [[0.5, 1.0]])
    ... except kanserve.errors.TensorError as error:
    ...     print(error)  # the model takes another number of columns
    """


class InvalidNameError(InputError):
    """A name of a model, a version or a file that is not allowed.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> try:
    ...     kanserve.publish("models", "My Houses", kanserve.compile(kan, ["numpy_source"]))
    ... except kanserve.errors.InvalidNameError as error:
    ...     print(type(error).__name__)
    InvalidNameError
    """


class NotFoundError(KanserveError):
    """A model, a version, an output or a file that is not there.

    Examples
    --------
    >>> import kanserve
    >>> try:
    ...     kanserve.load_model("no-such-folder")
    ... except kanserve.errors.NotFoundError as error:
    ...     print(error)
    The folder 'no-such-folder' does not exist.
    """


class ArtifactError(KanserveError):
    """A stored model that cannot be trusted.

    Examples
    --------
    >>> import kanserve
    >>> from dataclasses import replace
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> artifact = kanserve.compile(kan, ["numpy_source"])
    >>> try:
    ...     replace(artifact, files={**artifact.files, "formula.json": b"{}"})
    ... except kanserve.errors.ArtifactError as error:
    ...     print(type(error).__name__)
    IntegrityError
    """


class FormatError(ArtifactError):
    """Not in the format, or of an unknown version of it.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> try:
    ...     kanserve.Session.from_json("{}", kan, ([[0.0], [1.0]], [1.0, 3.0]))
    ... except kanserve.errors.FormatError as error:
    ...     print(error)
    This is not a session: it must be an object with the key 'session'.
    """


class IntegrityError(ArtifactError):
    """A file's size or checksum differs from the manifest's.

    Examples
    --------
    >>> import kanserve
    >>> from dataclasses import replace
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> artifact = kanserve.compile(kan, ["numpy_source"])
    >>> try:
    ...     replace(artifact, files={**artifact.files, "formula.json": b"{}"})
    ... except kanserve.errors.IntegrityError as error:
    ...     print(type(error).__name__)
    IntegrityError
    """


class SignatureError(ArtifactError):
    """A version is not signed, or not by a key that is trusted.

    Examples
    --------
    >>> import kanserve, tempfile
    >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    >>> from kanserve.artifact.signing import Verifier
    >>> trusted = Verifier((Ed25519PrivateKey.generate().public_key(),))
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> models = tempfile.mkdtemp()
    >>> artifact = kanserve.compile(kan, ["numpy_source"])
    >>> kanserve.publish(models, "line", artifact)
    1
    >>> try:
    ...     kanserve.load_model(models, trusted=trusted)
    ... except kanserve.errors.SignatureError as error:
    ...     print(error)
    The model is not signed: it has no manifest.sig. Sign it with 'kanserve sign'.
    """


class GoldenError(ArtifactError):
    """A backend disagrees with the golden rows of its artifact.

    Examples
    --------
    >>> import kanserve
    >>> try:  # doctest: +SKIP
    ...     kanserve.load_model(folder)
    ... except kanserve.errors.GoldenError:
    ...     kanserve.load_model(folder, backend="numpy_source")
    """


class ConflictError(KanserveError):
    """Something is there already: a version, a file, a port.

    Examples
    --------
    >>> import kanserve, tempfile
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> models = tempfile.mkdtemp()
    >>> artifact = kanserve.compile(kan, ["numpy_source"])
    >>> kanserve.publish(models, "line", artifact)
    1
    >>> try:
    ...     kanserve.publish(models, "line", artifact, version=1)
    ... except kanserve.errors.ConflictError as error:
    ...     print(error)
    Version 1 of 'line' exists already; versions never change. Publish another.
    """


class ExportError(KanserveError):
    """Files that cannot be made, as where a compiler fails.

    Examples
    --------
    >>> import kanserve
    >>> try:  # doctest: +SKIP
    ...     kanserve.compile(kan, ["c_source"])
    ... except kanserve.errors.ExportError:  # no room for the compiler, for example
    ...     kanserve.compile(kan, ["numpy_source"])
    """


class FormulaError(KanserveError):
    """A formula that cannot be given, or that differs from its network.

    Examples
    --------
    >>> import kanserve, kanserve.formula
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> try:
    ...     kanserve.formula.verify(kan, [])
    ... except kanserve.errors.FormulaError as error:
    ...     print(error)
    1 outputs need as many formulas, got 0.
    """


class TrainingError(KanserveError):
    """A fit that cannot start or has no finite result.

    Examples
    --------
    >>> import kanserve
    >>> try:
    ...     kanserve.fit([1, 1], ([[0.0], [1.0]], [1.0, 3.0]), steps=-1)
    ... except kanserve.errors.TrainingError as error:
    ...     print(type(error).__name__)
    TrainingError
    """


class MissingDependencyError(KanserveError):
    """A package is not installed, of one of kanserve's extras or, without one, of others.

    Parameters
    ----------
    package : str
        The package.
    extra : str, optional
        The extra of kanserve that has it.

    Examples
    --------
    >>> import kanserve
    >>> print(kanserve.errors.MissingDependencyError("matplotlib", "plot"))
    This needs the package matplotlib. Install it with: pip install 'kanserve[plot]'
    """

    def __init__(self, package: str, extra: str = "") -> None:
        wanted = f"'kanserve[{extra}]'" if extra else package
        super().__init__(f"This needs the package {package}. Install it with: pip install {wanted}")
        self.package = package
        self.extra = extra


class BusyError(KanserveError):
    """The queue is full.

    Examples
    --------
    >>> import kanserve, time
    >>> try:  # doctest: +SKIP
    ...     client.infer("houses", [[0.5]])
    ... except kanserve.errors.BusyError:
    ...     time.sleep(1)  # and call again
    """


class DrainingError(KanserveError):
    """The server is stopping and takes no new work.

    Examples
    --------
    >>> import kanserve
    >>> try:  # doctest: +SKIP
    ...     client.infer("houses", [[0.5]])
    ... except kanserve.errors.DrainingError:
    ...     kanserve.Client("other:8001").infer("houses", [[0.5]])
    """


class AccessError(KanserveError):
    """The caller may not do this.

    Examples
    --------
    >>> import kanserve
    >>> try:  # doctest: +SKIP
    ...     client.infer("houses", [[0.5]])
    ... except kanserve.errors.AccessError as error:
    ...     print(error)  # the token is known, and has no grant for this model
    """


class UnauthenticatedError(AccessError):
    """The caller has not shown who it is: no token and no certificate, or one that is not known.

    Examples
    --------
    >>> import kanserve
    >>> try:  # doctest: +SKIP
    ...     kanserve.Client("localhost:8001").infer("houses", [[0.5]])
    ... except kanserve.errors.UnauthenticatedError:
    ...     client = kanserve.Client("localhost:8001", token="...")
    """


class DeadlineError(KanserveError):
    """The caller's deadline has passed.

    Examples
    --------
    >>> import kanserve
    >>> try:  # doctest: +SKIP
    ...     kanserve.Client("localhost:8001", timeout=0.001).infer("houses", [[0.5]])
    ... except kanserve.errors.DeadlineError:
    ...     kanserve.Client("localhost:8001", timeout=1).infer("houses", [[0.5]])
    """


class UnreachableError(KanserveError):
    """No server answers at an address.

    Examples
    --------
    >>> import kanserve
    >>> try:
    ...     kanserve.Client("127.0.0.1:1", timeout=1).models()
    ... except kanserve.errors.UnreachableError as error:
    ...     print(type(error).__name__)
    UnreachableError
    """
