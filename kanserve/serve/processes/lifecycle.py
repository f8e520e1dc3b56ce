"""Signals, start-up messages and systemd notification, for every process of a server."""

import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, TypeVar

from kanserve.repository.source import ALL_VERSIONS
from kanserve.serve.models.catalog import Catalog
from kanserve.serve.models.loader import NOT_ASKED, UNLOADED
from kanserve.serve.settings import Settings

FAREWELL = 1.0  # seconds in which background threads may end by themselves

_says = logging.getLogger("kanserve.process")

_HEARD = 1.0

T = TypeVar("T")


@contextmanager
def heard(came: Callable[[int], object], *numbers: signal.Signals) -> Iterator[None]:
    """Call `came` when one of these signals arrives; the previous handlers are restored at the end."""

    def handle(number: int, frame: FrameType | None) -> None:
        came(number)

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, what in before.items():
            signal.signal(number, what)


def wait(events: SimpleQueue[T], seconds: float = math.inf) -> T:
    """Wait for the next event; raises Empty after `seconds`. An event from a signal handler is seen within a second: a
    signal just before the wait, or on another thread, does not interrupt it."""
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        try:
            return events.get(timeout=min(max(left, 0.0), _HEARD))
        except Empty:
            if left <= _HEARD:
                raise


def summary(catalog: Catalog) -> dict[str, Any]:
    """The loaded versions, and those not loaded with their reasons, as JSON data."""
    return {
        "loaded": sorted([name, version] for name, versions in catalog.models.items() for version in versions),
        "reasons": sorted([name, version, reason] for (name, version), reason in catalog.reasons.items()),
    }


def tell_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Log which versions were loaded and unloaded between two summaries; nothing if the first one is empty."""
    if not before:
        return
    for name, version in now["loaded"]:
        if [name, version] not in before["loaded"]:
            say(f"version {version} of {name!r} is loaded")
    for name, version in before["loaded"]:
        if [name, version] not in now["loaded"]:
            say(f"version {version} of {name!r} is unloaded")


def announce(
    summary: dict[str, Any],
    settings: Settings,
    address: str,
    urls: Mapping[str, str],
    transport: str,
    processes: int = 1,
) -> None:
    """Log what is served, where and how, and what cannot be. gRPC's `address` comes last, for programs to read."""
    served = {name for name, _ in summary["loaded"]}
    for name, version, reason in summary["reasons"]:
        if reason in (NOT_ASKED, UNLOADED):  # deliberately not loaded
            continue
        if version == ALL_VERSIONS and name in served:  # each of those has a line of its own
            continue
        kept = [name, version] in summary["loaded"]
        which = f"every version of {name!r}" if version == ALL_VERSIONS else f"version {version} of {name!r}"
        say(f"{which} is {'served as it was' if kept else 'not served'}: {reason}")
    models = len(served)
    by = f" by {processes} processes" if processes > 1 else ""
    over_http = "".join(f"{what} at {url}, " for what, url in urls.items())
    polls = settings.model_control == "poll"
    looking = f", looking for new versions every {settings.poll_seconds:g} s" if polls else ""
    what = f"{models} model{'' if models == 1 else 's'}{by}{looking}"
    serving = f"serving {what}: {over_http}gRPC ({transport}) on {address}"
    say(serving)
    tell_systemd(f"READY=1\nSTATUS={serving}")


def tell_systemd(state: str) -> None:
    """Notify the service manager, as in sd_notify(3); does nothing without NOTIFY_SOCKET."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, suppress(OSError):  # nobody listens
            channel.connect(path.replace("@", "\0", 1) if path.startswith("@") else path)
            channel.send(state.encode())


def configure(settings: Settings) -> None:
    """Set up logging to standard error, in the format of the settings."""
    from kanserve.serve.observability import logs

    logs.configure(settings)
    _says.setLevel(logging.INFO)
    _says.propagate = settings.log_format == "json"
    _says.handlers[:] = []
    if not _says.propagate:
        lines = logs.StandardError()
        lines.setFormatter(logging.Formatter("kanserve: %(message)s"))
        _says.addHandler(lines)


def say(text: str) -> None:
    """Log a line for the operator of the server, whatever the log level."""
    _says.info("%s", text)


def cut_off(settings: Settings) -> None:
    say(f"some calls took longer than {settings.grace_seconds:g} seconds and were cut off")
