"""Loading, unloading and looking for new versions: how the table of loaded models changes.

    read and verify -> golden rows -> warm-up -> the whole catalog is replaced -> the last call of an old version ends

The slow steps run on the threads of `loading_queue`, in order for each model, and a slow model does not delay others.
Reading the catalog is one attribute access and never blocks. A version that cannot be loaded changes only the catalog's
reasons. A version whose files were replaced under the same number is reloaded.
"""

import logging
import math
import os
import re
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock, RLock
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

import numpy as np

from kanserve import repository
from kanserve.artifact import signing
from kanserve.artifact.directory import unreadable
from kanserve.artifact.format import Artifact
from kanserve.artifact.naming_rules import check_name, check_version
from kanserve.errors import ArtifactError, InputError, KanserveError, NotFoundError, UnreachableError
from kanserve.repository import Source
from kanserve.repository.source import ALL_VERSIONS, Fault
from kanserve.serve.models import catalog as models
from kanserve.serve.models.catalog import Catalog, Key, Limits, Model
from kanserve.serve.models.catalog import State as VersionState
from kanserve.serve.models.loading_queue import LoadingQueue, return_memory, when_done
from kanserve.serve.models.routes import Routes, RoutesFile
from kanserve.serve.settings import ModelSettings, Settings

_NEWEST = re.compile(r"latest(?::([1-9][0-9]{0,8}))?")


@dataclass(frozen=True)
class Policy:
    """Which versions to serve: the `newest` ones that load, the `numbers` listed, or all if neither is set."""

    newest: int | None = None
    numbers: frozenset[int] | None = None

    def candidates(self, there: Iterable[int]) -> Iterator[int]:
        """The versions to try, newest first. Of those that load, the first `newest` are served."""
        yield from (v for v in sorted(there, reverse=True) if self.numbers is None or v in self.numbers)


def policy(text: str) -> Policy:
    """Parse a policy such as "all", "latest", "latest:2" or "1,3". Raises InputError if it is not valid."""
    if text == "all":
        return Policy()
    if found := _NEWEST.fullmatch(text):
        return Policy(newest=int(found[1] or 1))
    try:
        return Policy(numbers=frozenset(check_version(word.strip()) for word in text.split(",")))
    except InputError:
        raise InputError(f"Versions are all, latest, latest:N, or numbers as in 1,3; got {text!r:.80}.") from None


UNLOADED = "It is unloaded. Load it to use it."
NOT_ASKED = "It is not loaded until it is asked for."
KEPT = "It was replaced, and goes on as it was, for what replaced it cannot be loaded: "
KEPT_UNREAD = "It goes on as it was. "
_NO_CODE = (
    "c_source",
    "onnx_graph",
)  # backends whose memory is freed without a garbage collection, which holds the GIL

_logger = logging.getLogger(__name__)


INTERNAL = "internal error"
LONGEST_PAUSE = 300.0  # seconds, at most, until a failed load is retried, with poll
LONGEST_FAULT = 30.0  # the same after an error of the file system or the store, which may pass at any moment
_PATH = re.compile(r"(?<![\w.])(?:/[\w.+~-]+){2,}/?")


class Failure:
    """Why a version could not be loaded, and when to retry. `mark` identifies the content that failed."""

    def __init__(self, kind: type[BaseException], reason: str, mark: str, pause: float) -> None:
        self.kind, self.reason, self.mark, self.pause = kind, reason, mark, pause
        self.until = time.monotonic() + pause

    def to_error(self, name: str, version: int, kept: bool) -> KanserveError:
        """The error for a caller that asked for this version; `kept`: its previous content is still served."""
        kind = self.kind if issubclass(self.kind, ArtifactError | UnreachableError) else ArtifactError
        what = f"What replaced version {version}" if kept else f"Version {version}"
        return kind(f"{what} of {name!r} is not loaded: {self.reason}")


def failure_of(error: BaseException, mark: str, before: Failure | None, pause: float) -> Failure:
    """Record a failure, retried after `pause` seconds, or twice the last pause if the same content failed before."""
    if before is not None and before.mark == mark:
        passing = isinstance(error, UnreachableError | OSError)
        pause = max(pause, min(LONGEST_FAULT if passing else LONGEST_PAUSE, 2 * before.pause))
    return Failure(type(error), reason(error), mark, pause)


def reason(error: BaseException) -> str:
    """The reason shown to clients: the text of errors raised on purpose, without paths of this machine."""
    match error:
        case KanserveError():
            return _PATH.sub("...", str(error))
        case OSError():
            return unreadable("It", error)
        case MemoryError():
            return "There is not enough memory for it."
    return INTERNAL  # an error in an artifact's code or in ours; its text is not for clients


class Loads(Protocol):
    """Counts loads, like `state.Meters`."""

    def loaded(self, model: str, version: int, seconds: float, reason: str) -> None: ...


class Models:
    """The table of loaded models of one process; empty until the first `refresh`. `refused` maps versions that must not
    be loaded to reasons; `loading` is called before each load. Raises InputError for a URL without a required signature
    or explicit trust."""

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
        self._policies = {name: policy(model.versions or settings.versions) for name, model in settings.models.items()}
        self._policy = policy(settings.versions)
        self._background = LoadingQueue()
        self._subscribers: tuple[Callable[[Catalog], None], ...] = ()
        self._lock = Lock()  # guards only the subscribers
        self._table = RLock()  # guards what follows; never held for long
        self._begun = False
        self._churned = self._code = False  # whether memory may be unused; whether Python modules may be
        self._there: dict[str, Mapping[int, str]] = {}  # the repository as last seen: versions and their marks
        self._looked, self._looked_at = -math.inf, dict[str, float]()  # time of the last full look; later ones by model
        self._asked, self._unloaded = set(settings.load), set[str]()
        self._models: dict[str, dict[int, Model]] = {}
        self._marks: dict[str, dict[int, str]] = {}  # the mark of each version when it was loaded
        self._failures: dict[str, dict[int, Failure]] = {}
        self._loading: list[Key] = []
        self._ending: Counter[Key] = Counter()
        self._stale = set[str]()  # models of which the catalog may not say all that is known
        self._routes = RoutesFile(settings.routes, self._route) if settings.routes else None

    def refresh(self, retry: bool = True) -> None:
        """Look for new, replaced and removed versions, and return once all are loaded. Raises NotFoundError or
        UnreachableError, and changes nothing, if the repository cannot be read. With `retry`, versions that failed are
        tried at once, however long their pause."""
        for change in self.look(retry).result():
            change.result()
        self._begin()

    def look(self, retry: bool = True) -> "Future[list[Future[None]]]":
        """Like `refresh`, without waiting. The result has a future for each change that was started, one per model."""
        return self._background.begin(partial(self._look, retry), shared=f"look {retry}")

    def load(self, name: str) -> None:
        """Load the versions of a model that its policy asks for, and retry failed ones. Raises NotFoundError if there
        are none; ArtifactError if one cannot be loaded, while the others are served."""
        self._background.begin(partial(self._load, check_name(name)), name, "load").result()

    def unload(self, name: str) -> None:
        """Unload all versions of a model; it stays unloaded until `load` is called. Calls in progress finish with the
        version they have. Raises NotFoundError if there is no such model."""
        with self._background.turn(check_name(name)):
            self._unload(name)

    def subscribe(self, changed: Callable[[Catalog], None]) -> Callable[[], None]:
        """Call `changed` after each change, on the thread that made it. Returns a function that unsubscribes."""
        entry = partial(changed)  # a distinct object, so that one function can subscribe twice
        with self._lock:
            self._subscribers += (entry,)

        def end() -> None:
            with self._lock:
                self._subscribers = tuple(subscriber for subscriber in self._subscribers if subscriber is not entry)

        return end

    def gauges(self) -> dict[str, float]:
        """Current values, keyed by metric name."""
        return {"model_changes_waiting": self._background.waiting}

    def close(self) -> None:
        """Stop loading. Loaded models continue to serve."""
        self._background.close()
        if self._routes is not None:
            self._routes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _route(self, routes: Routes) -> None:
        with self._table:
            self.catalog = replace(self.catalog, routes=routes)
            self._publish()

    # On the background threads

    def _look(self, retry: bool) -> list[Future[None]]:
        when = time.monotonic()
        there = dict(self.source.look())
        missing = [name for name in self._settings.load if name not in there]
        if missing and not self._begun:
            raise NotFoundError(f"The repository has no model {missing[0]!r:.80}, which is to be loaded.")
        again = retry or not self._begun
        with self._table:
            self._note(there, when)
            names = [name for name in {**self._models, **self._there} if name in self._models or self._is_wanted(name)]
            self._publish({*self._models, *self._there, *(name for name, _ in self.catalog.reasons)})
        changes = [(name, partial(self._look_at, name, again)) for name in names]
        begun = [self._background.begin(change, name, f"look {again}") for name, change in changes]
        if not self._begun:
            when_done(begun, self._begin)
        return begun

    def _note(self, there: Mapping[str, Mapping[int, str]], when: float) -> None:
        """Record what the repository contained at time `when`, except for models that were looked at later."""
        later = {name: self._there[name] for name, then in self._looked_at.items() if then > when}
        for name, versions in there.items():
            if ALL_VERSIONS in versions:  # its folder cannot be listed: what is known of it stays
                later.setdefault(name, {**self._there.get(name, {}), **versions})
        self._there = {**there, **later}
        self._looked, self._looked_at = when, {}

    def _begin(self) -> None:
        """Mark the initial load as complete."""
        if not self._begun:
            self._begun = True
            self._background.give_way()

    def _look_at(self, name: str, again: bool) -> None:
        self._bring(name, again)
        self._tidy()

    def _load(self, name: str) -> None:
        when = time.monotonic()
        there = self.source.look_at(name)
        with self._table:
            if when >= self._looked:
                self._there[name], self._looked_at[name] = there, when
            self._asked.add(name)
            self._unloaded.discard(name)
            self._stale.add(name)
        failed = self._bring(name, again=True)
        self._tidy()
        with self._table:
            loaded = self._models.get(name, {})
        if failed:
            newest = max(failed)
            raise failed[newest].to_error(name, newest, newest in loaded)
        if not loaded:
            raise NotFoundError(f"The repository has none of the versions of {name!r} that are to be served.")

    def _unload(self, name: str) -> None:
        with self._table:
            known = name in self._models or name in self._there
        there = {} if known else {name: self.source.look_at(name)}  # NotFoundError
        with self._table:
            self._there |= there
            self._asked.discard(name)
            self._unloaded.add(name)
            self._put(name, {}, {})
            self._publish([name])

    def _is_wanted(self, name: str) -> bool:
        if name in self._unloaded:
            return False
        return name in self._asked or self._settings.model_control != "explicit"

    def _bring(self, name: str, again: bool) -> dict[int, Failure]:
        """Load the wanted versions that are not loaded, then serve them. Returns the failures."""
        with self._table:
            there = self._there.get(name, {}) if self._is_wanted(name) else {}
            had, marks = self._models.get(name, {}), self._marks.get(name, {})
        chosen, seen, failed = self._load_wanted(name, there, had, marks, again)
        with self._table:
            loaded = [key for key in self._loading if key[0] == name]
            for key in loaded:
                self._end_loading(key)
            failures = self._failures.get(name, {})
            cleared = [failures.pop(version, None) for version in chosen if version not in failed]
            if chosen != had:
                self._put(name, chosen, seen)
            elif chosen:
                self._marks[name] = seen
            if loaded or any(cleared) or chosen != had:
                self._publish([name])
        return failed

    def _load_wanted(
        self, name: str, there: Mapping[int, str], had: dict[int, Model], marks: dict[int, str], again: bool
    ) -> tuple[dict[int, Model], dict[int, str], dict[int, Failure]]:
        """Load the versions that the policy asks for, keeping those already loaded (`had`, with their `marks`). Returns
        the versions to serve, their marks, and the failures."""
        wanted = self._policies.get(name, self._policy)
        chosen: dict[int, Model] = {}
        seen: dict[int, str] = {}
        failed: dict[int, Failure] = {}
        if ALL_VERSIONS in there:  # its folder cannot be listed
            return had, marks, failed
        for version in wanted.candidates(there):
            if self._background.closing:
                return had, marks, failed  # everything stays as it is
            if len(chosen) == wanted.newest:
                break
            model, seen[version] = had.get(version), there[version]
            if model is None or marks.get(version) != there[version]:
                match self._try(name, version, there[version], model, again):
                    case Model() as model:
                        pass
                    case failure:
                        failed[version], seen[version] = failure, marks.get(version, "")
            if model is not None:
                chosen[version] = model
        return chosen, seen, failed

    def _try(self, name: str, version: int, mark: str, had: Model | None, again: bool) -> "Model | Failure":
        """Load a version. Returns it, or the failure; the previous failure if it is too early to retry; or `had`, the
        version as loaded before, if the repository still holds the same content."""
        key = name, version
        failure = self._failures.get(name, {}).get(version)
        if failure is not None and not again and failure.mark == mark and time.monotonic() < failure.until:
            return failure
        with self._table:
            self._loading.append(key)
            self._churned = True
            self._publish()
        begun, why = time.perf_counter(), ""
        try:
            return self._make(name, version, had)
        except BaseException as error:  # the code of an artifact may raise anything, and no signal comes to this thread
            why = reason(error)
            if why == INTERNAL:
                _logger.exception("version %s of %r could not be loaded", version, name)
            with self._table:
                # Not the error itself: its frames hold the bytes of the artifact.
                new_failure = failure_of(error, mark, failure, self._settings.poll_seconds)
                self._failures.setdefault(name, {})[version] = new_failure
                self._end_loading(key)
                self._publish([name])
            return new_failure
        finally:
            if self._meters is not None:
                self._meters.loaded(name, version, time.perf_counter() - begun, why)

    def _end_loading(self, key: Key) -> None:
        """Record that a version has finished loading."""
        self._loading.remove(key)
        if self._tell is not None and self._loading:  # if the process dies, the last version reported is blamed
            self._tell(*self._loading[0])

    def _make(self, name: str, version: int, had: Model | None) -> Model:
        if (reason := self._refused.get((name, version))) is not None:
            raise ArtifactError(reason)
        if self._tell is not None:
            self._tell(name, version)
        settings = self._settings
        own = settings.models.get(name) or ModelSettings()
        limits = Limits(
            own.max_rows or settings.max_rows,
            settings.max_message_bytes,
            own.concurrency or settings.concurrency,
            settings.drift_rows,
        )
        artifact = self.source.read(name, version)
        if had is not None and artifact.manifest == had.manifest:
            return had
        model = models.read(artifact, name, version, own.backend or settings.backend, limits)
        _warm_up(model, artifact, own.warm_up or settings.warm_up)
        return model

    def _put(self, name: str, chosen: Mapping[int, Model], marks: dict[int, str]) -> None:
        """Serve exactly these versions of a model. A replaced version is freed after its last call."""
        had = self._models.pop(name, {})
        self._marks.pop(name, None)
        if chosen:
            self._models[name], self._marks[name] = {version: chosen[version] for version in sorted(chosen)}, marks
        for version, model in had.items():
            if chosen.get(version) is not model:
                key = name, version
                self._ending[key] += 1
                self._background.attend()
                weakref.finalize(
                    model, self._background.soon, partial(self._forget_version, key, model.kind)
                ).atexit = False

    def _forget_version(self, key: Key, kind: str) -> None:
        """Called when the last call of an unloaded version has ended."""
        with self._table:
            self._code |= kind not in _NO_CODE
            self._ending -= Counter([key])
            self._churned = True
            self._publish()
        self._tidy()

    def _tidy(self) -> None:
        """Return unused memory to the system after loads and unloads; when several jobs end, only the last does it."""
        with self._table:
            collect = self._code
            if not self._churned or not self._background.idle:
                return
            self._churned = self._code = False
        return_memory(collect)

    def _publish(self, names: Iterable[str] = ()) -> None:
        """Publish a new catalog with the state of these models and the versions being loaded or unloaded."""
        changing: dict[Key, VersionState] = dict.fromkeys(self._ending, "UNLOADING")
        changing |= dict.fromkeys(self._loading, "LOADING")
        news = {name: (self._models.get(name, {}), self._reasons(name)) for name in {*names, *self._stale}}
        self._stale.clear()
        self.catalog = self.catalog.changed(news, changing)
        for changed in self._subscribers:
            try:
                changed(self.catalog)
            except Exception:  # the change is made, and other subscribers must still be notified
                _logger.exception("a subscriber to changes of the models failed")

    def _reasons(self, name: str) -> dict[Key, str]:
        """For each version of a model that is in the repository but not loaded, the reason."""
        versions, loaded = self._there.get(name, {}), self._models.get(name, {})
        reasons: dict[Key, str] = {}
        if not self._is_wanted(name):
            why = UNLOADED if name in self._unloaded else NOT_ASKED
            reasons |= {(name, version): why for version in versions}
        if fault := versions.get(ALL_VERSIONS):
            reasons |= {(name, version): KEPT_UNREAD + fault for version in loaded}
            reasons[name, ALL_VERSIONS] = fault
        for version, failure in list(self._failures.get(name, {}).items()):
            if version not in versions:
                del self._failures[name][version]
            elif (name, version) not in reasons:
                kept = KEPT_UNREAD if isinstance(versions[version], Fault) else KEPT
                reasons[name, version] = (kept if version in loaded else "") + failure.reason
        return reasons


def _warm_up(model: Model, artifact: Artifact, counts: Iterable[int]) -> None:
    """Predict batches of these sizes, so that a backend is set up for them before the first request."""
    rows = artifact.golden()[0].astype(model.backend.dtype)
    for count in counts:
        model.backend.predict(np.resize(rows, (min(count, model.max_rows), rows.shape[1])))


def _source(settings: Settings) -> Source:
    where = settings.repository
    if repository.is_remote(where) and not settings.require_signature and not settings.trust_remote_code:
        raise InputError(
            "A model is code, and this repository is remote. Give the keys that must sign it (require_signature), or "
            "trust everybody who can write there (trust_remote_code)."
        )
    trusted = signing.trust(settings.require_signature) if settings.require_signature else None
    return repository.open(where, name=settings.model_name, trusted=trusted)


def load(root: str | os.PathLike[str], *, backend: str | None = None) -> Catalog:
    """Load all versions of all models of a repository once, without a server."""
    with Models(Settings(repository=os.fspath(root), backend=backend or "")) as models:
        models.refresh()
        return models.catalog
