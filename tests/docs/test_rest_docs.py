"""docs/rest.md: its commands run and print what the page says, and its tables are those of the code."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.serve.methods import METHODS, ROUTES
from kanserve.serve.rest import http_head, http_server
from kanserve.serve.rest.messages import STATUSES
from kanserve.serve.rpc.message_limits import MAX_DESCRIPTION_BYTES
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support import programs
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "rest.md").read_text("utf-8")
# A command, and the answer if the next block is one.
COMMANDS = re.findall(r"```sh\n(.*?)```\n(?:\n```json\n(.*?)```)?", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The HTTP address of a server of the model that the page has."""
    kan = kanserve.from_formula(
        {"price": "2000*area + 300*(year - 1950) + 10000*rooms"},
        inputs=["area", "rooms", "year"],
        ranges={"area": (40, 220), "rooms": (1, 7), "year": (1950, 2025)},
    )
    folder = tmp_path_factory.mktemp("docs") / "models"
    kanserve.publish(folder, "houses", kanserve.compile(kan, ["c_source", "numpy_source"], name="houses"))
    with start(Settings(str(folder), port=0, http_port=0)) as server:
        yield server.http_address


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_each_command_prints_what_the_page_says(at, number):
    if shutil.which("curl") is None:
        programs.skip("curl")
    command, says = COMMANDS[number]
    command = command.replace("localhost:8002", at)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "error" not in found
    if says:
        _agree(found, json.loads(says))


def _agree(found: Any, wanted: Any) -> None:
    """The same JSON, but for the last bits of numbers."""
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            _agree(found[name], value)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            _agree(one, other)
    else:
        assert found == (pytest.approx(wanted, rel=1e-9) if isinstance(wanted, float) else wanted)


def test_the_binary_example_gives_the_same_numbers(at):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code.replace("localhost:8002", at), "rest.md", "exec"), names)
    np.testing.assert_allclose(names["y"], [[282_000.0], [198_000.0]], rtol=1e-9)


def test_the_table_of_calls_is_that_of_the_router():
    said = set(re.findall(r"`(GET|POST) (/\S+?)`", PAGE))
    wanted = {
        (rest.verb, path.replace("{model}", "MODEL")) for path, (rest, _) in ROUTES.items() if "{version}" not in path
    }
    assert said == wanted
    calls = {call for _, call in re.findall(r"^\| `(?:GET|POST) (\S+)` \| (\w+) \|", PAGE, re.MULTILINE)}
    assert calls == {method.name for method in METHODS for rest in method.rest if not rest.aside}


def test_the_statuses_and_limits_are_those_of_the_code():
    rows = re.findall(r"^\| (\d{3}) \| .* \| ([A-Z_, ]*)\|$", PAGE, re.MULTILINE)
    for status, codes in rows:
        named = {code.strip() for code in codes.split(",")} - {""}
        assert named == {code.name for code, one in STATUSES.items() if one == int(status)} & named
    assert {int(status) for status, _ in rows} == {*STATUSES.values(), 405, 413, 415, 431} - {200, 499, 501}
    assert (http_server.LONGEST_HEAD, http_head.MOST_HEADERS, MAX_DESCRIPTION_BYTES) == (16 * 1024, 100, 64 * 1024)
    assert (http_server.READ_SECONDS, http_server.BODY_SECONDS) == (5, 60)
    assert Settings.max_message_bytes == 16 * 2**20
