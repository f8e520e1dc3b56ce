"""Watch: a stream that says which versions there are, and then each change of that.

Nothing is kept for a reader but what it was told last. When it is ready for more it is told how the catalog of that
moment differs from that: who reads slowly misses the states on the way, and costs no memory.
"""

from collections.abc import Iterator, Mapping
from threading import Event

from kanserve.artifact.naming_rules import check_name
from kanserve.errors import DrainingError
from kanserve.serve.models.catalog import Catalog
from kanserve.serve.state import Call, ServerState
from kanserve.v1 import formula_pb2 as pb

LOOK = 0.25  # seconds after which a stream that has nothing to say looks whether it is still wanted

_STATES = {
    "READY": pb.MODEL_STATE_READY,
    "UNAVAILABLE": pb.MODEL_STATE_UNAVAILABLE,
    "LOADING": pb.MODEL_STATE_LOADING,
    "UNLOADING": pb.MODEL_STATE_UNLOADING,
}
_States = Mapping[tuple[str, int], pb.VersionState]


def watch(state: ServerState, request: pb.WatchRequest, call: Call) -> Iterator[pb.WatchResponse]:
    """The state of every version of a model or of all, then what changes, until the client leaves.

    InvalidNameError for what can be no model. A server that stops ends the stream with DrainingError, so that a client
    asks another.
    """
    if request.model_name:
        check_name(request.model_name)
        call.model = request.model_name if request.model_name in state.catalog.models else ""
    return _told(state, request.model_name, call)


def states(catalog: Catalog, name: str = "") -> dict[tuple[str, int], pb.VersionState]:
    """What a catalog says of each version, of one model or of all."""
    return {
        (one, version): pb.VersionState(
            model_name=one,
            model_version=str(version),
            state=_STATES[state],
            reason=catalog.reasons.get((one, version), ""),
            newest=state == "READY" and version == max(catalog.models[one]),
        )
        for (one, version), state in catalog.states.items()
        if name in ("", one)
    }


def _told(state: ServerState, name: str, call: Call) -> Iterator[pb.WatchResponse]:
    changed = Event()
    end = state.table.subscribe(lambda catalog: changed.set())
    try:
        catalog = state.catalog
        told, contents = states(catalog, name), catalog.contents
        del catalog  # which holds its models
        yield pb.WatchResponse(versions=told.values(), whole=True)
        while _wait(changed, state, call):
            changed.clear()
            catalog = state.catalog
            now, known, contents = states(catalog, name), contents, catalog.contents
            del catalog
            anew = {key for key, content in contents.items() if known.get(key, content) != content}
            if difference := list(_differences(told, now, anew)):
                yield pb.WatchResponse(versions=difference)
            told = now
    finally:
        end()


def _wait(changed: Event, state: ServerState, call: Call) -> bool:
    """Whether something changed; False once the client has left."""
    while call.alive():
        if state.threads.draining:
            raise DrainingError("The server is stopping. Watch another, or this one when it is back.")
        if changed.wait(LOOK):
            return True
    return False


def _differences(told: _States, now: _States, anew: set[tuple[str, int]]) -> Iterator[pb.VersionState]:
    """What is not as it was told, or was replaced by something else that is told in the same words."""
    for name, version in told:
        if (name, version) not in now:
            yield pb.VersionState(model_name=name, model_version=str(version), state=pb.MODEL_STATE_REMOVED)
    for key, one in now.items():
        if told.get(key) != one or key in anew:
            yield one
