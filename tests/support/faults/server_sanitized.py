"""The native transport under the sanitizers of gcc.

    python -m tests.support.faults.server_sanitized FOLDER [TESTS of pytest]

Builds its libraries into the folder and runs tests with them; a fault ends the process with the place.
"""

import os
import subprocess
import sys
from pathlib import Path

from kanserve.native import build
from tests.support.paths import ROOT
from tests.support.servers import server_process

DEBUGGED = ("-O1", "-g", "-fno-omit-frame-pointer")
SANITIZED = (*DEBUGGED, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RACES = (*DEBUGGED, "-fsanitize=thread")
TESTS = ("tests/unit/serve/transport",)
WITHOUT = "not timing and not extended"  # nor this test itself
RUN = """
import sys
from pathlib import Path

import pytest

from kanserve import native

native.FOLDER = Path(sys.argv[1])
from kanserve.serve.transport import native_library
assert native_library.library() is not None
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[2:]]))
"""
# Calls of all kinds, some of them left in the middle, by a server that is freed at the end.
SERVED = """
import sys
from pathlib import Path

from kanserve import native

native.FOLDER = Path(sys.argv[1])
from tests.support.peers.http2_peer import INITIAL_WINDOW_SIZE, Peer
from tests.support.servers.loop_server import ASIDE, ECHO, STREAM, LoopServer

for leaving in (False, True):
    with LoopServer() as server, Peer(server.address, settings={INITIAL_WINDOW_SIZE: 2**20}) as peer:
        peer.open()
        peer.round_trip()
        for path in (ECHO, ASIDE, STREAM):
            assert peer.ask(path, bytes(100_000)).messages == [bytes(100_000)]
            assert peer.ask(path, b"x", grpc_timeout="1n").status != 99
        stream = peer.call(STREAM)
        peer.message(stream, b"one of many", end=False)
        peer.message(peer.call(ECHO), b"the begin", end=False, size=1000)
        peer.round_trip()
        if not leaving:
            peer.frame(3, 0, stream, bytes(4))
            peer.round_trip()
print("served")
"""


def built(folder: Path, flags: tuple[str, ...] = SANITIZED) -> Path:
    """A folder with the sanitized libraries, and links to the others."""
    libraries = folder / "native"
    libraries.mkdir()
    source = libraries / "server"
    source.symlink_to(build.FOLDER / "server")
    for path in build.FOLDER.glob("libkanserve-*.so"):
        if "server" not in path.name:
            (libraries / path.name).symlink_to(path)
    usual = build.SERVER_FLAGS
    build.SERVER_FLAGS = (*(flag for flag in usual if flag != "-Wl,--no-undefined"), *flags)  # type: ignore[assignment]
    try:
        build.build_server(libraries)
    finally:
        build.SERVER_FLAGS = usual
    return libraries


def run(libraries: Path, *tests: str) -> "subprocess.CompletedProcess[str]":
    """Run these tests by the libraries."""
    return _python(RUN, [str(libraries), "-m", WITHOUT, *(tests or TESTS)], "detect_leaks=0")


def leaks(libraries: Path) -> list[str]:
    """What a server that has served and was freed has allocated and not given back."""
    done = _python(SERVED, [str(libraries)], "detect_leaks=1:exitcode=0")
    assert done.stdout == "served\n", done.stderr
    return [block for block in done.stderr.split("\n\n") if "leak of" in block and "libkanserve-server" in block]


def runtime(name: str) -> str:
    """The library of a sanitizer, which a process that is not compiled with it loads first."""
    command = ["gcc", f"-print-file-name=lib{name}.so"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _python(code: str, arguments: list[str], options: str) -> "subprocess.CompletedProcess[str]":
    environment = server_process.ENVIRONMENT | {
        "LD_PRELOAD": runtime("asan"),
        "ASAN_OPTIONS": options,
        "OMP_NUM_THREADS": "1",
    }
    environment |= {"PYTHONMALLOC": "malloc"} if "detect_leaks=1" in options else {}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=1200)


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    made = built(Path(sys.argv[1]))
    found_leaks = leaks(made)
    print(*found_leaks, sep="\n")
    done = run(made, *sys.argv[2:])
    print(done.stdout[-3000:], done.stderr[-6000:])
    sys.exit(done.returncode or len(found_leaks))
