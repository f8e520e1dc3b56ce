"""`kanserve serve`: reads and checks the settings, then replaces itself with the serving process (execv). The serving
process then does not hold pydantic and the flag parser in memory, and keeps the PID and the standard streams."""

import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import kanserve
from kanserve.cli import standard_streams
from kanserve.errors import KanserveError
from kanserve.serve import settings, sockets
from kanserve.serve.configuration import flags
from kanserve.serve.settings import Settings

_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")


def main(arguments: Sequence[str]) -> int:
    """Entry point of `kanserve serve`. Does not return once the server starts; otherwise (--help, --check-config, an
    error) returns the exit code."""
    if flags.asks(arguments, "--help", "-h"):
        return _print(flags.text())
    try:
        from kanserve.serve.configuration.checks import warnings
        from kanserve.serve.configuration.settings_sources import configuration

        checks = flags.asks(arguments, "--check-config")
        found = configuration(arguments, os.environ)
        for warning in found.warnings:
            _say(warning)
        if checks:
            for warning in warnings(found.settings):  # otherwise the server logs them when it starts
                _say(warning)
            return _print("\n".join(show(found.settings, found.origins)))
        check_free(found.settings)
    except KanserveError as error:
        for line in str(error).splitlines():
            _say(line)
        return 2
    return become(found.settings)


def become(found: Settings) -> NoReturn:
    """Replace this process by the serving one."""
    # `-P`, since `-m` would search the working folder first, which may hold other modules; except when kanserve itself
    # was imported from there, as in a checkout.
    ours = str(Path(kanserve.__file__).parents[1])
    path = [] if ours == os.getcwd() and not sys.flags.safe_path else ["-P"]
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None: it was closed when this process started
            stream.flush()
    standard_streams.open_closed()
    os.execv(sys.executable, [sys.executable, *path, "-m", "kanserve.serve", str(hand_over(found))])


def hand_over(found: Settings) -> int:
    """A file descriptor from which only the next process can read the settings."""
    text = settings.dumps(found).encode()
    try:
        number = os.memfd_create("settings", 0)
    except (AttributeError, OSError):  # not Linux, or forbidden
        import tempfile

        with tempfile.TemporaryFile() as file:
            number = os.dup(file.fileno())
    os.write(number, text)
    os.lseek(number, 0, os.SEEK_SET)
    os.set_inheritable(number, True)
    return number


def check_free(found: Settings) -> None:
    """Raise ConflictError or InputError if a port is not available, before anything is loaded."""
    addresses = [(found.host_of_http(), found.http_port)]
    if not found.unix_socket:
        addresses.append((found.host, found.port))
    for host, port in addresses:
        if port > 0:
            sockets.check_free(host, port)


def show(found: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    """The settings as a file for --config, with the origin of each; secrets are left out."""
    for setting in flags.of_settings():
        value = getattr(found, setting.name)
        line = f"# {setting.name} is not set" if value is None else f"{setting.name} = {_toml(value)}"
        yield f"{line}  # {origins[setting.name]}" if setting.name in origins else line
    for name, model in found.models.items():
        yield from ("", f"[models.{name}]", *_table(model))
    for grant in found.access:
        yield from ("", "[[access]]", *_table(grant))


def _table(kind: Any) -> Iterator[str]:
    for part in dataclasses.fields(kind):
        value = getattr(kind, part.name)
        if value in ("", (), 0):
            continue
        # The hash is secret too: a weak token can be found from it by brute force.
        yield f"{part.name} = {_toml('(not shown)' if part.name == 'token_sha256' else value)}"


def _toml(value: Any) -> str:
    """A value as TOML; texts, numbers, booleans and lists of them are written as in JSON."""
    if isinstance(value, str):
        value = _CREDENTIALS.sub("(not shown)@", value)
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _print(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        standard_streams.drop_output()
    except OSError as error:
        standard_streams.drop_output()
        _say(f"The output cannot be written: {error.strerror}.")
        return 2
    return 0


def _say(text: str) -> None:
    print(f"kanserve: {text}", file=sys.stderr, flush=True)
