"""Loading, unloading and looking for new versions: how the table of loaded models changes.

    read and verify -> golden rows -> warm-up -> the whole catalog is replaced -> the last call of an old version ends

All of that happens on one thread (`background`); whoever reads the catalog takes one reference and waits for nobody. A
version that cannot be loaded changes nothing but the catalog's reasons.
"""

import logging
import re
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import Lock
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

import numpy as np

from kanserve import repository
from kanserve.artifact import signing
from kanserve.artifact.format import Artifact
from kanserve.artifact.names import check_name
from kanserve.errors import ArtifactError, InputError, KanserveError, NotFoundError, UnreachableError
from kanserve.repository import Source
from kanserve.serve.models import catalog as models
from kanserve.serve.models.background import Background, lower_priority, return_memory
from kanserve.serve.models.catalog import Catalog, Key, Limits, Model
from kanserve.serve.models.catalog import State as VersionState
from kanserve.serve.models.policies import policy
from kanserve.serve.settings import ModelSettings, Settings

UNLOADED = "It is unloaded. Load it to use it."
NOT_ASKED = "It is not loaded until it is asked for."
_NO_CODE = ("c_source", "onnx_graph")  # the backends that go without Python's collector, for which everybody waits
LONGEST_PAUSE = 300.0  # seconds until a version that could not be loaded is tried again, with poll
_PATH = re.compile(r"(?<![\w.])(?:/[\w.+~-]+){2,}/?")

_logger = logging.getLogger(__name__)


class Loads(Protocol):
    """What counts loads, as `state.Meters` does."""

    def loaded(self, model: str, version: int, seconds: float, reason: str) -> None: ...


class Models:
    """The table of loaded models of one process; empty until the first `refresh`, which loads what is to be served.

    `refused` are versions that must not be loaded, with the reasons; `loading` is called with each before it is loaded.
    InputError for a repository behind a URL whose models nobody vouches for.
    """

    def __init__(
        self,
        settings: Settings,
        meters: Loads | None = None,
        refused: Mapping[Key, str] = MappingProxyType({}),
        loading: Callable[[str, int], None] | None = None,
    ) -> None:
        self.catalog = Catalog(MappingProxyType({}), MappingProxyType({}))
        self.source = _source(settings)
        self._settings = settings
        self._meters, self._refused, self._tell = meters, refused, loading
        self._policies = {name: policy(one.versions or settings.versions) for name, one in settings.models.items()}
        self._policy = policy(settings.versions)
        self._background = Background()
        self._subscribers: tuple[Callable[[Catalog], None], ...] = ()
        self._lock = Lock()  # of the subscribers alone
        # What follows is the background thread's own.
        self._begun = False
        self._churned = self._code = False  # whether memory may be unused; whether Python modules may be
        self._there: dict[str, tuple[int, ...]] = {}  # the repository's index, as last seen
        self._asked, self._unloaded = set(settings.load), set[str]()
        self._models: dict[str, dict[int, Model]] = {}
        self._failures: dict[Key, _Failure] = {}
        self._loading: Key | None = None
        self._ending: Counter[Key] = Counter()

    def refresh(self) -> None:
        """Look for versions that are new and those that are gone; NotFoundError, UnreachableError and nothing changed
        when the repository cannot be read."""
        self._background.run(self._refresh, "refresh")

    def load(self, name: str) -> None:
        """Load what is there of a model, also what could not be loaded before. NotFoundError when there is nothing;
        ArtifactError when one of its versions cannot be loaded, whereupon the others serve."""
        check_name(name)
        self._background.run(partial(self._load, name), f"load {name}")

    def unload(self, name: str) -> None:
        """Let go of all versions of a model until `load`; calls under way keep theirs. NotFoundError for no model."""
        check_name(name)
        self._background.run(partial(self._unload, name))

    def subscribe(self, changed: Callable[[Catalog], None]) -> Callable[[], None]:
        """Call `changed` after each change, on the thread that made it; what comes back ends that."""
        entry = partial(changed)  # one of its own, so that the same function can be there twice
        with self._lock:
            self._subscribers += (entry,)

        def end() -> None:
            with self._lock:
                self._subscribers = tuple(one for one in self._subscribers if one is not entry)

        return end

    def close(self) -> None:
        """Load nothing more. What is loaded goes on serving."""
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # On the background thread

    def _refresh(self) -> None:
        there = dict(self.source.index())
        if not self._begun:
            for name in self._settings.load:
                if name not in there:
                    raise NotFoundError(f"There is no model {name!r:.80} in the repository, and it is to be loaded.")
        self._there = there
        for name in [one for one in self._models if one not in there or not self._is_wanted(one)]:
            self._put(name, {})
        again = not self._begun or self._settings.model_control != "poll"
        for name, versions in there.items():
            if self._is_wanted(name) and not self._background.closing:
                self._bring(name, versions, again)
        self._publish()
        if not self._begun:
            self._begun = True
            lower_priority()  # from here on others have something to do
        self._tidy()

    def _load(self, name: str) -> None:
        there = self._there[name] = self.source.versions(name)
        self._asked.add(name)
        self._unloaded.discard(name)
        failed = self._bring(name, there, again=True)
        self._publish()
        self._tidy()
        if failed:
            raise failed[max(failed)].told(name, max(failed))
        if not self._models.get(name):
            raise NotFoundError(f"The repository has none of the versions of {name!r} that are to be served.")

    def _unload(self, name: str) -> None:
        if name not in self._models and name not in self._there:
            self._there[name] = self.source.versions(name)  # NotFoundError
        self._asked.discard(name)
        self._unloaded.add(name)
        self._put(name, {})
        self._publish()

    def _is_wanted(self, name: str) -> bool:
        if name in self._unloaded:
            return False
        return name in self._asked or self._settings.model_control != "explicit"

    def _bring(self, name: str, there: Iterable[int], again: bool) -> "dict[int, _Failure]":
        """Load what the policy asks for and is not loaded, then put it in place; what could not be loaded."""
        wanted, had = self._policies.get(name, self._policy), self._models.get(name, {})
        chosen: dict[int, Model] = {}
        failed: dict[int, _Failure] = {}
        for version in wanted.candidates(there):
            if self._background.closing:
                return failed  # everything stays as it is
            if len(chosen) == wanted.newest:
                break
            match had.get(version) or self._try(name, version, again):
                case Model() as model:
                    chosen[version] = model
                case failure:
                    failed[version] = failure
        if chosen != had:
            self._put(name, chosen)
        return failed

    def _try(self, name: str, version: int, again: bool) -> "Model | _Failure":
        """A version, newly loaded, or why not; what was found the last time where it is too early to try it again."""
        key = name, version
        failure = self._failures.get(key)
        if failure is not None and not again and time.monotonic() < failure.until:
            return failure
        self._loading = key
        self._publish()
        self._churned = True
        begun, reason = time.perf_counter(), ""
        try:
            model = self._made(name, version)
        except BaseException as error:  # the code of an artifact may raise anything, and no signal comes to this thread
            reason = _reason(error)
            if reason == _INTERNAL:
                _logger.exception("version %s of %r could not be loaded", version, name)
            pause = min(LONGEST_PAUSE, 2 * failure.pause if failure else self._settings.poll_seconds)
            # Not the error itself: its frames hold the bytes of the artifact.
            self._failures[key] = found = _Failure(type(error), reason, pause)
            return found
        finally:
            self._loading = None
            if self._meters is not None:
                self._meters.loaded(name, version, time.perf_counter() - begun, reason)
        self._failures.pop(key, None)
        return model

    def _made(self, name: str, version: int) -> Model:
        if (reason := self._refused.get((name, version))) is not None:
            raise ArtifactError(reason)
        if self._tell is not None:
            self._tell(name, version)
        settings = self._settings
        own = settings.models.get(name) or ModelSettings()
        limits = Limits(
            own.max_rows or settings.max_rows, settings.max_message_bytes, own.concurrency or settings.concurrency
        )
        artifact = self.source.read(name, version)
        model = models.read(artifact, name, version, own.backend or settings.backend, limits)
        _warm_up(model, artifact, own.warm_up or settings.warm_up)
        return model

    def _put(self, name: str, chosen: Mapping[int, Model]) -> None:
        """Serve these versions of a model and no others; what is replaced ends with its last call."""
        had = self._models.pop(name, {})
        if chosen:
            self._models[name] = {version: chosen[version] for version in sorted(chosen)}
        for version, model in had.items():
            if chosen.get(version) is not model:
                key = name, version
                self._ending[key] += 1
                weakref.finalize(model, self._background.soon, partial(self._ended, key, model.kind)).atexit = False

    def _ended(self, key: Key, kind: str) -> None:
        """The last call of a version that was let go has ended."""
        self._code |= kind not in _NO_CODE
        self._ending -= Counter([key])
        self._churned = True
        self._publish()
        self._tidy()

    def _tidy(self) -> None:
        """Give back the memory of what was loaded and let go; the last of several jobs does it for all."""
        if self._churned and self._background.idle:
            return_memory(collect=self._code)
            self._churned = self._code = False

    def _publish(self) -> None:
        changing: dict[Key, VersionState] = dict.fromkeys(self._ending, "UNLOADING")
        if self._loading is not None:
            changing[self._loading] = "LOADING"
        loaded = {name: MappingProxyType(dict(self._models[name])) for name in sorted(self._models)}
        self.catalog = Catalog(MappingProxyType(loaded), MappingProxyType(self._reasons()), MappingProxyType(changing))
        for changed in self._subscribers:
            try:
                changed(self.catalog)
            except Exception:  # the change is made, and the others are to hear of it
                _logger.exception("who was told of a change of the models failed")

    def _reasons(self) -> dict[Key, str]:
        """Why a version that is in the repository is not loaded."""
        reasons: dict[Key, str] = {}
        for name, versions in self._there.items():
            if not self._is_wanted(name):
                reasons |= dict.fromkeys(
                    ((name, one) for one in versions), UNLOADED if name in self._unloaded else NOT_ASKED
                )
        for key, failure in list(self._failures.items()):
            name, version = key
            if version not in self._there.get(name, ()):
                del self._failures[key]
            elif key not in reasons and version not in self._models.get(name, {}):
                reasons[key] = failure.reason
        return reasons


class _Failure:
    """Why a version could not be loaded, and when it is to be tried again."""

    def __init__(self, kind: type[BaseException], reason: str, pause: float) -> None:
        self.kind, self.reason, self.pause = kind, reason, pause
        self.until = time.monotonic() + pause

    def told(self, name: str, version: int) -> KanserveError:
        """The error for whoever asked for that version."""
        kind = self.kind if issubclass(self.kind, ArtifactError | UnreachableError) else ArtifactError
        return kind(f"Version {version} of {name!r} is not loaded: {self.reason}")


_INTERNAL = "internal error"


def _reason(error: BaseException) -> str:
    """What clients are told: what was raised on purpose, without the paths of this machine."""
    match error:
        case KanserveError():
            return _PATH.sub("...", str(error))
        case OSError():
            return f"It cannot be read: {error.strerror or type(error).__name__}."
        case MemoryError():
            return "There is not enough memory for it."
    return _INTERNAL  # code of an artifact or a defect of ours; either way its text is not for clients


def _warm_up(model: Model, artifact: Artifact, counts: Iterable[int]) -> None:
    """Predict so many rows: a backend sets up for them now, and not when somebody waits."""
    rows = artifact.golden()[0].astype(model.backend.dtype)
    for count in counts:
        model.backend.predict(np.resize(rows, (min(count, model.max_rows), rows.shape[1])))


def _source(settings: Settings) -> Source:
    where = settings.repository
    if repository.is_remote(where) and not settings.require_signature and not settings.trust_remote_code:
        raise InputError(
            "A model is code, and this one comes from elsewhere. Say whose signature to demand (require_signature), "
            "or that everybody who can write there is trusted (trust_remote_code)."
        )
    trusted = signing.trust(settings.require_signature) if settings.require_signature else None
    return repository.open(where, model_name=settings.model_name, trusted=trusted)
