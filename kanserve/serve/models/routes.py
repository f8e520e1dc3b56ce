"""Aliases of versions, and the part of the requests that each version gets: a JSON file, read again when it changes.

    {"houses": {"aliases": {"stable": 3, "canary": 4}, "weights": {"stable": 90, "canary": 10}}}

houses@stable is version 3 then, and of the predictions that are asked of houses without a version a tenth is made by
version 4. Requests with the same id get the same version while the weights stay as they are; the loop of the native
transport draws as `draw` does (`table_draw` in kanserve/native/server/served_models.c).
"""

import itertools
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

from kanserve.artifact.naming_rules import check_name, check_version
from kanserve.errors import InputError, InvalidNameError
from kanserve.network.serialization import write_atomically
from kanserve.serve.auth import rotation
from kanserve.serve.request import Pairs

Routes = Mapping[str, "Route"]  # by model

DRAWS = 2**32
LOOK = 1.0  # seconds between looks at the file: a rollback is complete after this long
_STEP = 0x9E3779B9  # the golden ratio of 32 bits: multiples of it are spread evenly
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_numbers = itertools.count(1)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Route:
    """Of one model the versions by alias, and the weights of versions; without any the newest answers."""

    aliases: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[int, float] = field(default_factory=dict)


def draw(request_id: str) -> int:
    """A number from 0 to DRAWS - 1, always the same for an id; without an id the next of a sequence that is spread
    evenly."""
    if not request_id:
        return next(_numbers) * _STEP % DRAWS
    value = 2166136261  # FNV-1a, and the last steps of MurmurHash 3
    for byte in request_id.encode():
        value = (value ^ byte) * 16777619 % DRAWS
    value = (value ^ value >> 16) * 0x85EBCA6B % DRAWS
    value = (value ^ value >> 13) * 0xC2B2AE35 % DRAWS
    return value ^ value >> 16


def route_value(metadata: Pairs, header: str) -> str:
    """The value of the header that chooses the version: the first, if it is ASCII, which all transports read alike;
    else empty. `stream_route` in kanserve/native/server/stream.c does the same."""
    value = next((value for key, value in metadata if key == header), "") if header else ""
    return value if isinstance(value, str) and value.isascii() else ""


def shares(route: Route, loaded: Mapping[int, Any]) -> tuple[tuple[int, int], ...]:
    """The draws below which each version answers, ascending, with the version: the largest weight first. Weights of
    versions that are not loaded go to the others; empty if none of them is."""
    weights = {version: weight for version, weight in route.weights.items() if weight > 0 and version in loaded}
    total, below, ends = sum(weights.values()), 0.0, []
    for version, weight in sorted(weights.items(), key=lambda pair: -pair[1]):
        below += weight
        ends.append((round(DRAWS * below / total), version))
    return tuple(ends)


def read_routes(path: str) -> Routes:
    """The routes of a file; InputError if it cannot be read or is none."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)  # reading a pipe would never end
    except OSError:
        regular = True  # reading says why
    if not regular:
        raise InputError(f"The routes file {path!r} is no regular file.")
    return parse_routes(rotation.read(path, "The routes file"), path)


def parse_routes(data: bytes, path: str) -> Routes:
    """The routes of a file's bytes; InputError for others."""
    try:
        value = json.loads(data)
        return {check_name(name): _route(entry) for name, entry in value.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        reason = "the top level must be an object of models" if isinstance(error, AttributeError) else str(error)[:100]
        raise InputError(f"The routes file {path!r} cannot be used: {reason}.") from None
    except (InputError, InvalidNameError) as error:
        raise InputError(f"The routes file {path!r} cannot be used: {error}") from None


def _route(entry: Any) -> Route:
    if not isinstance(entry, dict) or not set(entry) <= {"aliases", "weights"}:
        raise InputError(f"A model has an object with the keys aliases and weights, got {entry!r:.80}.")
    aliases, weights = entry.get("aliases", {}), entry.get("weights", {})
    if not isinstance(aliases, dict) or not isinstance(weights, dict):
        raise InputError(f"aliases and weights are objects, got {entry!r:.80}.")
    return make_route(aliases, weights)


def make_route(aliases: Mapping[str, Any], weights: Mapping[str, Any]) -> Route:
    """The route with versions by alias, and weights by alias or by version as text; InputError for what is none."""
    versions: dict[str, int] = {}
    for alias, version in aliases.items():
        if not _ALIAS.fullmatch(alias):
            raise InputError(
                f"An alias is a lower-case letter, then such letters, digits, '-' and '_', got {alias!r:.80}."
            )
        versions[alias] = check_version(str(version))
    shares: dict[int, float] = {}
    for name, weight in weights.items():
        if type(weight) not in (int, float) or not 0 <= weight <= DRAWS:
            raise InputError(f"A weight is a number of 0 or more, such as 90; got {weight!r:.40} for {name!r:.80}.")
        if name not in versions and not name.isdecimal():
            known = ", ".join(versions) or "none"
            raise InputError(f"Weights are of aliases or versions; {name!r:.80} is no alias. There are: {known}.")
        version = versions[name] if name in versions else check_version(name)
        shares[version] = shares.get(version, 0) + weight
    if shares and not sum(shares.values()):
        raise InputError("At least one weight must be above 0.")
    return Route(versions, shares)


def change_routes(
    path: Path, model: str, aliases: Mapping[str, int], weights: Mapping[str, float]
) -> Mapping[str, Any]:
    """Add these aliases to a model's in the file, give it these weights if there are any, and return its entry.

    The file is replaced as a whole, and made if there is none.
    """
    check_name(model)
    value: dict[str, Any] = {}
    if path.exists():
        read_routes(str(path))
        value = json.loads(path.read_bytes())
    entry = value.get(model, {})
    entry = {
        "aliases": {**entry.get("aliases", {}), **aliases},
        "weights": dict(weights) if weights else entry.get("weights", {}),
    }
    if aliases or weights:
        make_route(entry["aliases"], entry["weights"])
        write_atomically(path, json.dumps({**value, model: entry}, indent=1).encode() + b"\n")
    return entry


class RoutesFile:
    """Reads the file, and again whenever it changes, on a thread of its own: `changed` is called with the routes. What
    cannot be used is logged, and the routes before stay. InputError at first."""

    def __init__(self, path: str, changed: Callable[[Routes], None]) -> None:
        self._path, self._changed = path, changed
        self._stamp = rotation.stamp(path)  # before reading, so that a write in between is noticed later
        changed(read_routes(path))
        self._over = Event()
        self._thread = Thread(target=self._watch, name="kanserve-routes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            self.look()

    def look(self) -> None:
        """Read the file if it changed."""
        if (now := rotation.stamp(self._path)) == self._stamp:
            return
        self._stamp = now
        try:
            self._changed(read_routes(self._path))
        except InputError as error:
            _logger.error("%s The routes before stay in use.", error)
        except Exception:
            _logger.exception("The routes could not be changed.")
        else:
            _logger.info("The routes were reloaded.")
