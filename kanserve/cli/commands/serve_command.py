"""`kanserve serve`: reads and checks what is set, then becomes the process that serves and carries no more than that.

What read the settings, pydantic and a parser of flags, is gone with the process that it was in: execv keeps its number,
its output and its place, so that a supervisor of processes sees one from begin to end.
"""

import dataclasses
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import kanserve
from kanserve.errors import KanserveError
from kanserve.serve import settings, sockets
from kanserve.serve.configuration import flags
from kanserve.serve.settings import Settings

_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")


def main(arguments: Sequence[str]) -> int:
    """Serve, and not come back; the exit code where that is not to be."""
    if flags.asks(arguments, "--help", "-h"):
        _print(flags.text())
        return 0
    try:
        from kanserve.serve.configuration.checks import warnings
        from kanserve.serve.configuration.settings_sources import configuration

        checks = flags.asks(arguments, "--check-config")
        found = configuration(arguments, os.environ)
        for warning in found.warnings:
            _say(warning)
        if checks:
            for warning in warnings(found.settings):  # which the server itself says when it starts
                _say(warning)
            _print("\n".join(shown(found.settings, found.origins)))
            return 0
        check_free(found.settings)
    except KanserveError as error:
        for line in str(error).splitlines():
            _say(line)
        return 2
    return become(found.settings)


def become(found: Settings) -> NoReturn:
    """The process that serves, instead of this one."""
    # `-m` would look into the working folder first, and what lies there is not ours; but where this process was
    # started so, from the sources, there they are.
    ours = str(Path(kanserve.__file__).parents[1])
    path = [] if ours == os.getcwd() and not sys.flags.safe_path else ["-P"]
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None: it was closed when this process began
            stream.flush()
    _open_the_first_three()
    os.execv(sys.executable, [sys.executable, *path, "-m", "kanserve.serve", str(handed_over(found))])


def _open_the_first_three() -> None:
    """Where standard input, output or error are closed, something else would be opened under their numbers, and what
    is meant for them would be written there."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)


def handed_over(found: Settings) -> int:
    """The number of a descriptor that the next process reads the settings from, and nobody else."""
    text = settings.dumps(found).encode()
    try:
        number = os.memfd_create("settings", 0)
    except (AttributeError, OSError):  # not Linux, or forbidden
        with tempfile.TemporaryFile() as file:
            number = os.dup(file.fileno())
    os.write(number, text)
    os.lseek(number, 0, os.SEEK_SET)
    os.set_inheritable(number, True)
    return number


def check_free(found: Settings) -> None:
    """ConflictError or InputError where a port is not to be had, so that it is said before anything is loaded."""
    places = [(found.host_of_http(), found.http_port)]
    if not found.unix_socket:
        places.append((found.host, found.port))
    for host, port in places:
        if port > 0:
            sockets.check_free(host, port)


def shown(found: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    """The settings as a file that --config takes, with where each came from; what is secret is not there."""
    for setting in flags.of_settings():
        value = getattr(found, setting.name)
        line = f"# {setting.name} is not set" if value is None else f"{setting.name} = {_toml(value)}"
        yield f"{line}  # {origins[setting.name]}" if setting.name in origins else line
    for name, model in found.models.items():
        yield from ("", f"[models.{name}]", *_table(model))
    for grant in found.access:
        yield from ("", "[[access]]", *_table(grant))


def _table(one: Any) -> Iterator[str]:
    for part in dataclasses.fields(one):
        value = getattr(one, part.name)
        if value in ("", (), 0):
            continue
        # Who has the hash of a weak token finds the token.
        yield f"{part.name} = {_toml('(not shown)' if part.name == 'token_sha256' else value)}"


def _toml(value: Any) -> str:
    """Texts, numbers, truths and lists of them are the same in TOML and JSON."""
    if isinstance(value, str):
        value = _CREDENTIALS.sub("(not shown)@", value)
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains as it ends


def _say(text: str) -> None:
    print(f"kanserve: {text}", file=sys.stderr, flush=True)
