"""The builds of an edge server that its README offers."""

import re
import subprocess
from pathlib import Path

import pytest

from kanserve.serve.edge_server import edge_server
from kanserve.serve.transport import native_library
from tests.support.networks import kans
from tests.support.programs import skip, want

pytestmark = [pytest.mark.slow]


@pytest.fixture(autouse=True, scope="module")
def _libraries() -> None:
    if native_library.library() is None:
        skip("libnghttp2-dev")


def written(folder: Path) -> str:
    """The files of an edge server in a folder, and its README."""
    files = dict(edge_server(kans.symbolic(), "law"))
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return files["README.md"].decode()


def runs(folder: Path, command: str, binary: str = "law") -> None:
    """A shell's line builds a server that is right, with TLS if the line says so."""
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert subprocess.run([folder / binary, "--check"], timeout=60).returncode == 0
    said = subprocess.run([folder / binary, "--help"], capture_output=True, text=True, timeout=60).stdout
    assert ("--tls-certificate" in said) == ("TLS" in command)


@pytest.mark.extended
def test_the_readme_s_lines_are_those_that_build(tmp_path):
    readme = written(tmp_path)
    plain, tls = re.findall(r"^    (cc (?:.*\\\n)*.*)$", readme, re.MULTILINE)
    runs(tmp_path, plain)
    want("pkg-config")
    runs(tmp_path, tls)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("static", "tls"),
    [
        ("OFF", ""),
        pytest.param("ON", "", marks=pytest.mark.extended),
        pytest.param("OFF", "-DKANSERVE_TLS=ON", marks=pytest.mark.extended),
        pytest.param("ON", "-DKANSERVE_TLS=ON", marks=pytest.mark.extended),
    ],
)
def test_cmake_builds_it_too(tmp_path, static, tls):
    cmake = want("cmake")
    written(tmp_path)
    runs(tmp_path, f"{cmake} -B build -DKANSERVE_STATIC={static} {tls} && {cmake} --build build", "build/law")
