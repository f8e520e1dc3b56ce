"""Why a version could not be loaded, as clients are told, and when it is to be tried again."""

import re
import time

from kanserve.errors import ArtifactError, KanserveError, UnreachableError

INTERNAL = "internal error"
LONGEST_PAUSE = 300.0  # seconds until a version that could not be loaded is tried again, with poll
_PATH = re.compile(r"(?<![\w.])(?:/[\w.+~-]+){2,}/?")


class Failure:
    """Why a version could not be loaded, and when it is to be tried again; `mark` says what it was like then."""

    def __init__(self, kind: type[BaseException], reason: str, mark: str, pause: float) -> None:
        self.kind, self.reason, self.mark, self.pause = kind, reason, mark, pause
        self.until = time.monotonic() + pause

    def told(self, name: str, version: int, kept: bool) -> KanserveError:
        """The error for whoever asked for that version; `kept`: what was loaded of it before goes on."""
        kind = self.kind if issubclass(self.kind, ArtifactError | UnreachableError) else ArtifactError
        what = f"What replaced version {version}" if kept else f"Version {version}"
        return kind(f"{what} of {name!r} is not loaded: {self.reason}")


def failure_of(error: BaseException, mark: str, before: Failure | None, pause: float) -> Failure:
    """A failure, which is tried again after `pause` seconds, or after twice as long as the one before."""
    if before is not None and before.mark == mark:
        pause = min(LONGEST_PAUSE, 2 * before.pause)
    return Failure(type(error), reason(error), mark, pause)


def reason(error: BaseException) -> str:
    """What clients are told: what was raised on purpose, without the paths of this machine."""
    match error:
        case KanserveError():
            return _PATH.sub("...", str(error))
        case OSError():
            return f"It cannot be read: {error.strerror or type(error).__name__}."
        case MemoryError():
            return "There is not enough memory for it."
    return INTERNAL  # code of an artifact or a defect of ours; either way its text is not for clients
