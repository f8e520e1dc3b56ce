"""Watch: a stream of the state of all versions, and then of each change.

For each client only the last sent state is kept. When the client is ready for more, it gets the differences between
that and the current catalog: a slow client misses intermediate states, and costs no memory.
"""

from collections.abc import Iterator, Mapping
from threading import Event

from kanserve.artifact.naming_rules import check_name
from kanserve.errors import DrainingError
from kanserve.serve.models.catalog import Catalog
from kanserve.serve.state import Call, ServerState
from kanserve.v1 import formula_pb2 as pb

LOOK = 0.25  # seconds between checks of an idle stream whether its client has left

_STATES = {
    "READY": pb.MODEL_STATE_READY,
    "UNAVAILABLE": pb.MODEL_STATE_UNAVAILABLE,
    "LOADING": pb.MODEL_STATE_LOADING,
    "UNLOADING": pb.MODEL_STATE_UNLOADING,
}
_States = Mapping[tuple[str, int], pb.VersionState]


def watch(state: ServerState, request: pb.WatchRequest, call: Call) -> Iterator[pb.WatchResponse]:
    """The state of every version of a model, or of all models, then changes, until the client leaves.

    InvalidNameError for an invalid name. A stopping server ends the stream with DrainingError, so that the client tries
    another server.
    """
    if request.model_name:
        check_name(request.model_name)
        call.model = request.model_name if request.model_name in state.catalog.models else ""
    return _told(state, request.model_name, call)


def states(catalog: Catalog, name: str = "") -> dict[tuple[str, int], pb.VersionState]:
    """The state of each version in a catalog, of one model or of all."""
    return {
        (model, version): pb.VersionState(
            model_name=model,
            model_version=str(version),
            state=_STATES[state],
            reason=catalog.reasons.get((model, version), ""),
            newest=state == "READY" and version == max(catalog.models[model]),
        )
        for (model, version), state in catalog.states.items()
        if name in ("", model)
    }


def _told(state: ServerState, name: str, call: Call) -> Iterator[pb.WatchResponse]:
    changed = Event()
    end = state.table.subscribe(lambda catalog: changed.set())
    try:
        catalog = state.catalog
        sent, contents = states(catalog, name), catalog.contents
        del catalog  # it would keep its models in memory
        yield pb.WatchResponse(versions=sent.values(), whole=True)
        while _wait(changed, state, call):
            changed.clear()
            catalog = state.catalog
            now, known, contents = states(catalog, name), contents, catalog.contents
            del catalog
            anew = {key for key, content in contents.items() if known.get(key, content) != content}
            if difference := list(_differences(sent, now, anew)):
                yield pb.WatchResponse(versions=difference)
            sent = now
    finally:
        end()


def _wait(changed: Event, state: ServerState, call: Call) -> bool:
    """Wait until something changes: True; False once the client has left."""
    while call.alive():
        if state.threads.draining:
            raise DrainingError("The server is stopping. Watch another, or this one when it is back.")
        if changed.wait(LOOK):
            return True
    return False


def _differences(told: _States, now: _States, anew: set[tuple[str, int]]) -> Iterator[pb.VersionState]:
    """The versions whose state differs from the one sent, or whose content was replaced under the same state."""
    for name, version in told:
        if (name, version) not in now:
            yield pb.VersionState(model_name=name, model_version=str(version), state=pb.MODEL_STATE_REMOVED)
    for key, state in now.items():
        if told.get(key) != state or key in anew:
            yield state
