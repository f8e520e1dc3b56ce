"""Events from a Watch stream, without repetitions after a reconnect."""

from collections.abc import Iterator
from dataclasses import dataclass

from kanserve.v1 import formula_pb2 as pb


@dataclass(frozen=True)
class ModelEvent:
    """The new state of a version of a model, as `Client.watch` yields it.

    Parameters
    ----------
    name : str
        The model's name.
    version : int
        Its version.
    state : {"ready", "unavailable", "loading", "unloading", "removed"}
        What it is now.
    reason : str
        Why it is unavailable.
    newest : bool
        Whether it answers requests that name no version.

    Examples
    --------
    >>> event = next(client.watch("line"))
    >>> event.name, event.state, event.newest
    ('line', 'ready', True)
    """

    name: str
    version: int
    state: str
    reason: str = ""
    newest: bool = False


class Known:
    """The last known states, so that after a reconnect only differences become events."""

    def __init__(self) -> None:
        self._events: dict[tuple[str, int], ModelEvent] = {}
        self.heard = False

    def events(self, response: pb.WatchResponse) -> Iterator[ModelEvent]:
        """The new events in a response. The first response of a connection has all versions that still exist."""
        self.heard = True
        received = [_event(version) for version in response.versions]
        if response.whole:
            there = {(event.name, event.version) for event in received}
            gone = [key for key in self._events if key not in there]
            received = [*(ModelEvent(name, version, "removed") for name, version in gone), *received]
        for event in received:
            key = (event.name, event.version)
            if self._events.get(key) == event:
                continue
            if event.state == "removed":
                self._events.pop(key, None)
            else:
                self._events[key] = event
            yield event


def _event(version_state: pb.VersionState) -> ModelEvent:
    state = pb.ModelState.Name(version_state.state).removeprefix("MODEL_STATE_").lower()
    return ModelEvent(
        version_state.model_name, int(version_state.model_version), state, version_state.reason, version_state.newest
    )
