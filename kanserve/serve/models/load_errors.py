"""Why a version could not be loaded, in words for clients, and when to retry."""

import re
import time

from kanserve.artifact.directory import unreadable
from kanserve.errors import ArtifactError, KanserveError, UnreachableError

INTERNAL = "internal error"
LONGEST_PAUSE = 300.0  # seconds, at most, until a failed load is retried, with poll
LONGEST_FAULT = 30.0  # the same after an error of the file system or the store, which may pass at any moment
_PATH = re.compile(r"(?<![\w.])(?:/[\w.+~-]+){2,}/?")


class Failure:
    """Why a version could not be loaded, and when to retry; `mark` identifies its content at that time."""

    def __init__(self, kind: type[BaseException], reason: str, mark: str, pause: float) -> None:
        self.kind, self.reason, self.mark, self.pause = kind, reason, mark, pause
        self.until = time.monotonic() + pause

    def told(self, name: str, version: int, kept: bool) -> KanserveError:
        """The error for the caller that asked for that version; `kept`: its previous content is still served."""
        kind = self.kind if issubclass(self.kind, ArtifactError | UnreachableError) else ArtifactError
        what = f"What replaced version {version}" if kept else f"Version {version}"
        return kind(f"{what} of {name!r} is not loaded: {self.reason}")


def failure_of(error: BaseException, mark: str, before: Failure | None, pause: float) -> Failure:
    """A failure to retry after `pause` seconds, or after twice the pause of an earlier failure of the same content."""
    if before is not None and before.mark == mark:
        passing = isinstance(error, UnreachableError | OSError)
        pause = max(pause, min(LONGEST_FAULT if passing else LONGEST_PAUSE, 2 * before.pause))
    return Failure(type(error), reason(error), mark, pause)


def reason(error: BaseException) -> str:
    """The reason that clients get: the text of errors raised on purpose, without paths of this machine."""
    match error:
        case KanserveError():
            return _PATH.sub("...", str(error))
        case OSError():
            return unreadable("It", error)
        case MemoryError():
            return "There is not enough memory for it."
    return INTERNAL  # an error in an artifact's code or in ours; its text is not for clients
