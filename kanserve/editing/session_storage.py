"""A session as JSON and as a Python script: its steps, and checksums of the initial network and the data.

    {"session": 1, "network": sha256, "data": sha256, "seed": 0, "held_out": true,
     "steps": [{"kind": "snap", "edge": "x->h1", "function": "sin", "refit": 12}, ...], "undone": [...]}

A file is checked completely before any step is taken: sizes, keys, types and ranges. No code in it is run. The network
and the data must be those that the session began with.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, NoReturn

import numpy as np

from kanserve.artifact.format import read_json
from kanserve.data.dataset import Dataset
from kanserve.editing.steps import KIND_OF, KINDS, Step
from kanserve.errors import FormatError, InputError
from kanserve.network import serialization
from kanserve.network.kan import Kan
from kanserve.network.own_functions import OWN

SESSION_STORAGE_MOST_SEED = 2**63 - 1  # largest seed of a stored session
SESSION_STORAGE_MOST_STEPS = 1000  # steps of a session, undone ones included
MOST_BYTES = 4_000_000  # bytes of a stored session

VERSION = 1
_KEYS = {"session", "network", "data", "seed", "held_out", "steps", "undone"}


@dataclass(frozen=True)
class Stored:
    """A session as stored in a file."""

    network: str
    data: str
    seed: int
    held_out: bool
    steps: tuple[Step, ...]
    undone: tuple[Step, ...]
    """The last one is redone first."""


def dumps(stored: Stored) -> str:
    value = {
        "session": VERSION,
        "network": stored.network,
        "data": stored.data,
        "seed": stored.seed,
        "held_out": stored.held_out,
        "steps": [step_out(step) for step in stored.steps],
        "undone": [step_out(step) for step in stored.undone],
    }
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def loads(text: str) -> Stored:
    """Read a session from JSON. Raises FormatError, with the place, if it is invalid."""
    if not isinstance(text, str):
        _refuse("a session", "is the text that to_json gave", text)
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > MOST_BYTES:
        raise FormatError(f"A session may have {MOST_BYTES} bytes, got {len(data)}.")
    value = read_json(data, "The session")
    if not isinstance(value, dict) or "session" not in value:
        raise FormatError("This is not a session: it must be an object with the key 'session'.")
    if value["session"] != VERSION or isinstance(value["session"], bool):
        raise FormatError(f"The session has version {_short(value['session'])}; this kanserve reads {VERSION}.")
    _check_keys("the session", value, _KEYS, _KEYS)
    for name, kind in (("network", str), ("data", str), ("seed", int), ("held_out", bool)):
        if type(value[name]) is not kind:
            _refuse(name, f"must be of type {kind.__name__}", value[name])
    if not 0 <= value["seed"] <= SESSION_STORAGE_MOST_SEED:
        _refuse("seed", f"must be from 0 to {SESSION_STORAGE_MOST_SEED}", value["seed"])
    steps, undone = (_steps_in(name, value[name]) for name in ("steps", "undone"))
    if len(steps) + len(undone) > SESSION_STORAGE_MOST_STEPS:
        raise FormatError(f"A session has at most {SESSION_STORAGE_MOST_STEPS} steps, got {len(steps) + len(undone)}.")
    return Stored(value["network"], value["data"], value["seed"], value["held_out"], steps, undone)


def script(stored: Stored) -> str:
    """A Python module whose `replay(kan, data)` repeats the steps and returns an equal network."""
    more = "" if stored.held_out else ", held_out=False"
    lines = [
        '"""The steps of a kanserve session: replay(kan, data) gives the network that it ended with."""',
        "",
        "import kanserve",
        "",
        "",
        "def replay(kan, data):",
        *(f"    kanserve.register_function({own})" for own in _own_functions(stored.steps)),
        f"    session = kanserve.Session(kan, data, seed={stored.seed}{more})",
        *(f"    session.{call(step)}" for step in stored.steps),
        "    return session.kan",
    ]
    return "\n".join(lines) + "\n"


def _own_functions(steps: Sequence[Step]) -> list[str]:
    """The arguments that register the user's functions used in the steps, except those registered by their values."""
    named = [getattr(step, "function", "") for step in steps] + [n for s in steps for n in getattr(s, "functions", ())]
    return [
        f"{own.name!r}, {own.formula!r}" + (f", domain={own.domain!r}" if own.domain else "")
        for own in (OWN[name] for name in dict.fromkeys(named) if name in OWN)
        if own.formula is not None
    ]


def call(step: Step) -> str:
    """The method call that takes a step: snap('x->h1', 'sin')."""
    words = []
    for field in fields(step):  # type: ignore[arg-type]  # every step is a dataclass
        value = getattr(step, field.name)
        if field.default is MISSING:
            words.append(repr(value))
        elif value != field.default:
            name = {"intervals": "grid"}.get(field.name, field.name)  # the method's parameter for the step's field
            words.append(f"{name}={value!r}")
    return f"{KIND_OF[type(step)]}({', '.join(words)})"


def step_out(step: Step) -> dict[str, Any]:
    """A step as JSON data."""
    values = {field.name: getattr(step, field.name) for field in fields(step)}  # type: ignore[arg-type]  # a dataclass
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {"kind": KIND_OF[type(step)], **plain}


def network_checksum(kan: Kan) -> str:
    """The SHA-256 of a network; equal networks have equal checksums."""
    return hashlib.sha256(serialization.dumps(kan)).hexdigest()


def data_checksum(data: Dataset) -> str:
    """The SHA-256 of the numbers and classes of a data set; column names do not matter."""
    digest = hashlib.sha256(json.dumps(data.classes).encode())
    for array in (data.x, data.y, data.weights):
        if array is not None:
            digest.update(f"\n{array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array, "<f8").data)
    return digest.hexdigest()


def _steps_in(name: str, value: Any) -> tuple[Step, ...]:
    if not isinstance(value, list) or len(value) > SESSION_STORAGE_MOST_STEPS:
        _refuse(name, f"must be a list of at most {SESSION_STORAGE_MOST_STEPS} steps", value)
    return tuple(step_in(f"{name}[{number}]", item) for number, item in enumerate(value))


def step_in(place: str, value: Any) -> Step:
    """Read a step from JSON data. Raises FormatError, with its place, if it is invalid."""
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        _refuse(place, "must be an object with the key 'kind'", value)
    if value["kind"] not in KINDS:
        _refuse(f"{place}.kind", f"must be one of {', '.join(KINDS)}", value["kind"])
    made = KINDS[value["kind"]]
    known = fields(made)  # type: ignore[arg-type]  # every step is a dataclass
    needed = {field.name for field in known if field.default is MISSING}
    given = {name: argument for name, argument in value.items() if name != "kind"}
    _check_keys(place, given, {field.name for field in known}, needed)
    for name, argument in given.items():
        nested = argument if isinstance(argument, list) else [argument]
        if not all(part is None or isinstance(part, str | int | float) for part in nested):
            _refuse(f"{place}.{name}", "must be a value or a list of values", argument)
    try:
        return made(**given)
    except InputError as error:
        raise FormatError(f"{place}: {error}") from None


def _check_keys(place: str, value: Mapping[str, Any], known: Sequence[str] | set[str], needed: set[str]) -> None:
    for name in value:
        if name not in known:
            _refuse(place, f"has keys of {', '.join(sorted(known))}", name)
    for name in sorted(needed):
        if name not in value:
            raise FormatError(f"{place} lacks the key {name!r}.")


def _refuse(place: str, wanted: str, got: Any) -> NoReturn:
    raise FormatError(f"{place} {wanted}, got {_short(got)}.")


def _short(value: Any) -> str:
    """A value in a few characters; only the type of a container, since it may be deep."""
    return type(value).__name__ if isinstance(value, dict | list) else ascii(value)[:80]
