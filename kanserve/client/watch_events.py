"""What a stream of changes says, as events; the same over a connection that was lost and made again."""

from collections.abc import Iterator
from dataclasses import dataclass

from kanserve.v1 import formula_pb2 as pb


@dataclass(frozen=True)
class ModelEvent:
    """What a version of a model has become: "ready", "unavailable", "loading", "unloading" or "removed".

    `reason` says why one is unavailable; `newest` whether it answers requests that name no version.
    """

    name: str
    version: int
    state: str
    reason: str = ""
    newest: bool = False


class Known:
    """What was told, so that after a new connection only what differs is told again."""

    def __init__(self) -> None:
        self._events: dict[tuple[str, int], ModelEvent] = {}
        self.heard = False

    def events(self, response: pb.WatchResponse) -> Iterator[ModelEvent]:
        """What a response says that was not known. The first of a connection is whole, and lacks what is gone."""
        self.heard = True
        told = [_event(version) for version in response.versions]
        if response.whole:
            there = {(one.name, one.version) for one in told}
            gone = [key for key in self._events if key not in there]
            told = [*(ModelEvent(name, version, "removed") for name, version in gone), *told]
        for one in told:
            key = (one.name, one.version)
            if self._events.get(key) == one:
                continue
            if one.state == "removed":
                self._events.pop(key, None)
            else:
                self._events[key] = one
            yield one


def _event(one: pb.VersionState) -> ModelEvent:
    state = pb.ModelState.Name(one.state).removeprefix("MODEL_STATE_").lower()
    return ModelEvent(one.model_name, int(one.model_version), state, one.reason, one.newest)
