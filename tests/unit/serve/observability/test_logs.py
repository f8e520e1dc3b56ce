"""Lines on standard error, and the access log: what they say, that they are lines, and that they hurt nobody."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanserve.errors import InputError
from kanserve.serve.observability import logs
from kanserve.serve.settings import Settings
from kanserve.serve.state import Call
from tests.support.paths import DOCS, ROOT

GUIDE = DOCS / "serving.md"
HOSTILE = 'x"}\n{"time":"forged\r\n\u2028\x00\x1b[2J'


@pytest.fixture
def configured():
    """`logs.configure`, undone at the end."""
    root, ours = logging.root, logging.getLogger("kanserve")
    before = root.handlers[:], root.level, ours.level

    def configure(**settings: Any) -> None:
        logs.configure(Settings(**settings))

    yield configure
    logging.captureWarnings(False)
    root.handlers[:], root.level = before[0], before[1]
    ours.setLevel(before[2])


def call(**known: Any) -> Call:
    made = Call("inference.GRPCInferenceService", "ModelInfer", 1_000_000)
    made.model, made.version, made.rows, made.request_id = "plant", 3, 2, "7f3a"
    made.queued, made.decoded, made.computed, made.encoded = 60_000, 20_000, 5_000, 9_000
    made.ended, made.peer, made.identity = made.arrived + 100_000, "ipv4:127.0.0.1:5000", "quality"
    for name, value in known.items():
        setattr(made, name, value)
    return made


def test_text_says_when_how_bad_what_and_about_which_call(configured, capsys):
    configured()
    logger = logging.getLogger("kanserve.serve.rpc.routes")
    logger.info("serving 3 models: gRPC on 127.0.0.1:8001")
    logger.error("a call failed", extra=logs.of(call()))
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("Z kanserve: serving 3 models: gRPC on 127.0.0.1:8001")
    assert second.endswith("Z kanserve: error: a call failed [request_id=7f3a model=plant]")
    assert abs(datetime.fromisoformat(first.split()[0]).timestamp() - datetime.now().timestamp()) < 60


def test_json_lines_have_an_exception_as_one_field(configured, capsys):
    configured(log_format="json")
    try:
        raise ValueError("a line\nand another")
    except ValueError as error:
        logging.getLogger("kanserve").error("a call failed", exc_info=error, extra=logs.of(call()))
    logging.getLogger("kanserve").info("fine")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["message"], first["request_id"], first["model"]) == (
        "error",
        "a call failed",
        "7f3a",
        "plant",
    )
    assert first["exception"].startswith("Traceback") and first["exception"].endswith("and another")
    assert set(second) == {"time", "level", "logger", "message"}


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_a_client_sends_begins_no_line(configured, capsys, log_format):
    configured(log_format=log_format)
    logging.getLogger("kanserve").warning("refused %s", HOSTILE, extra={"request_id": HOSTILE, "model": HOSTILE})
    written = capsys.readouterr().err
    assert len(written.splitlines()) == 1
    assert not any(character in written[:-1] for character in "\r\n\x00\x1b\u2028")


def test_the_level_is_that_of_the_settings_for_our_lines_and_warning_for_others(configured, capsys):
    configured(log_level="error")
    logging.getLogger("kanserve").warning("not said")
    configured(log_level="debug")
    logging.getLogger("kanserve.serve").debug("said")
    logging.getLogger("grpc").info("not said")
    logging.getLogger("grpc").warning("said too")
    assert [line.rpartition(": ")[2] for line in capsys.readouterr().err.splitlines()] == ["said", "said too"]


def test_warnings_of_python_are_lines_too(configured):
    code = (
        "import warnings; from kanserve.serve.observability import logs; from kanserve.serve.settings import Settings;"
        "logs.configure(Settings(log_format='json')); warnings.warn('old')"
    )
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, timeout=60)
    assert "old" in json.loads(done.stderr)["message"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["os.close(2)", "sys.stderr.close()", "sys.stderr = None", "os.dup2(full, 2)"])
def test_nobody_is_hurt_when_standard_error_is_gone(how):
    code = (
        "import os, sys, logging; from kanserve.serve.processes import lifecycle;"
        "from kanserve.serve.settings import Settings;"
        f"full = os.open('/dev/full', os.O_WRONLY); lifecycle.configure(Settings()); {how};"
        "logging.getLogger('kanserve').error('x' * 100_000); logging.getLogger('kanserve').error('%d', 'x');"
        "lifecycle.say('goes on');"
        "print('alive', flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "alive\n" and done.returncode == 0


def opened(path: Path | str) -> logs.AccessLog:
    log = logs.access_log(Settings(access_log=str(path)))
    assert log is not None
    return log


def test_a_call_is_one_line_with_all_fields(tmp_path):
    log = opened(tmp_path / "access.log")
    log(call(outside=np.array([0, 2, 0, 1])))
    log(call(code="NOT_FOUND", error="There is no model 'fox'.", model="", version=0))
    log.close()
    first, second = map(json.loads, (tmp_path / "access.log").read_text().splitlines())
    assert abs(datetime.fromisoformat(first.pop("time")).timestamp() - datetime.now().timestamp()) < 60
    assert first == {
        "request_id": "7f3a",
        "peer": "ipv4:127.0.0.1:5000",
        "identity": "quality",
        "service": "inference.GRPCInferenceService",
        "method": "ModelInfer",
        "model": "plant",
        "version": 3,
        "rows": 2,
        "outside": {"1": 2, "3": 1},
        "code": "OK",
        "error": "",
        "seconds": 0.0001,
        "queue": 6e-05,
        "decode": 2e-05,
        "compute": 5e-06,
        "encode": 9e-06,
    }
    assert second["code"] == "NOT_FOUND" and second["error"] == "There is no model 'fox'."
    assert list(second) == list(logs.FIELDS) and (tmp_path / "access.log").stat().st_mode & 0o777 & ~0o640 == 0


def test_without_a_file_there_is_no_access_log(tmp_path):
    assert logs.access_log(Settings()) is None
    for path in (tmp_path, tmp_path / "none" / "access.log"):
        with pytest.raises(InputError, match="cannot be opened"):
            logs.access_log(Settings(access_log=str(path)))


def test_whatever_a_call_is_called_it_is_one_line_that_a_pipe_takes_whole(tmp_path):
    log = opened(tmp_path / "access.log")
    for text in (HOSTILE, "\u2028" * 10_000, "\ud800" * 10_000, "\n" * 10_000, "é" * 10_000):
        log(call(request_id=text, error=text, peer=text, identity=text, outside=np.full(5000, 10**12)))
    log.close()
    lines = (tmp_path / "access.log").read_bytes().split(b"\n")
    assert len(lines) == 6 and lines[-1] == b""
    for line in lines[:-1]:
        assert list(json.loads(line)) == list(logs.FIELDS) and len(line) < logs.LONGEST_LINE


def test_processes_and_threads_share_a_file_line_by_line(tmp_path):
    path, mine = tmp_path / "access.log", [opened(tmp_path / "access.log") for _ in range(2)]
    code = (
        "import sys; sys.path.insert(0, '.'); from tests.unit.serve.observability.test_logs import *;"
        f"log = opened({str(path)!r}); [log(call(error='y' * 400)) for _ in range(500)]"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as other:
        threads = [
            threading.Thread(target=lambda log=log: [log(call(error="x" * 400)) for _ in range(500)]) for log in mine
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert other.wait(60) == 0
    lines = list(map(json.loads, path.read_text().splitlines()))
    assert len(lines) == 1500 and {line["error"][0] for line in lines} == {"x", "y"}
    for log in mine:
        log.close()


def test_a_rotated_file_is_followed(tmp_path, caplog):
    path = tmp_path / "access.log"
    log = opened(path)
    log(call(request_id="1"))
    path.rename(tmp_path / "access.log.1")
    log(call(request_id="2"))
    log.reopen()
    log(call(request_id="3"))
    path.rename(tmp_path / "access.log.2")
    path.mkdir()
    log.reopen()  # and where there is no new one, the old one is kept
    log(call(request_id="4"))
    log.close()
    written = {
        name: [json.loads(line)["request_id"] for line in (tmp_path / name).read_text().splitlines()]
        for name in ("access.log.1", "access.log.2")
    }
    assert written == {"access.log.1": ["1", "2"], "access.log.2": ["3", "4"]}
    assert "cannot be opened again" in caplog.text


def test_a_full_disk_is_said_once_and_the_lines_after_it_are_whole(tmp_path):
    path = tmp_path / "access.log"
    code = (
        "import sys; sys.path.insert(0, '.'); import resource, signal;"
        "from tests.unit.serve.observability.test_logs import *;"
        "logs.configure(Settings()); signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"log = opened({str(path)!r}); limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1));"
        "limit(1000); [log(call()) for _ in range(20)]; limit(10**6); [log(call(request_id='after')) for _ in range(3)]"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    said = [line.partition("kanserve: ")[2] for line in done.stderr.splitlines()]
    lines = path.read_text().splitlines()
    whole = 1000 // (len(lines[0]) + 1)
    assert len(said) == 2 and "lines are lost" in said[0] and f"{20 - whole} lines were lost" in said[1], done.stderr
    assert len(lines) == whole + 1 + 3  # one of them is torn
    written = [json.loads(line)["request_id"] for line in lines[:whole] + lines[-3:]]
    assert written == ["7f3a"] * whole + ["after"] * 3


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_that_does_not_read_keeps_no_call_waiting(tmp_path, monkeypatch, caplog, kind):
    if kind == "pipe":
        reader, writer = os.pipe()
    else:
        pair = socket.socketpair()
        reader, writer = (stream.detach() for stream in pair)
    monkeypatch.setattr(os, "dup", lambda number: writer)
    log = opened("-")
    signal.alarm(30)
    try:
        for _ in range(3000):
            log(call())
    finally:
        signal.alarm(0)
    assert caplog.text.count("lines are lost") == 1
    os.close(reader)
    log(call())  # and nobody reads any more
    log.close()


def test_a_pipe_that_nobody_has_opened_is_refused(tmp_path):
    os.mkfifo(tmp_path / "access.log")
    with pytest.raises(InputError):
        opened(tmp_path / "access.log")


def test_standard_output_takes_the_access_log(capfd):
    log = opened("-")
    log(call())
    log.close()
    assert json.loads(capfd.readouterr().out)["request_id"] == "7f3a"


def test_a_closed_log_takes_what_still_comes(tmp_path):
    log = opened(tmp_path / "access.log")
    log.close()
    log(call())


def test_the_guide_has_every_field():
    guide = GUIDE.read_text()
    for name, meaning in logs.FIELDS.items():
        assert f"| `{name}` | {meaning} |" in guide


def test_a_pipe_that_nobody_reads_keeps_no_call_waiting():
    code = (
        "import logging, os, sys, time; from kanserve.serve.observability import logs;"
        "from kanserve.serve.settings import Settings; logs.configure(Settings());"
        "[logging.getLogger('kanserve').error('%s', 'x' * 3000) for _ in range(100)];"
        "print('alive', flush=True)"
    )
    reader, writer = os.pipe()
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=writer, timeout=60)
        assert done.stdout == b"alive\n" and done.returncode == 0
        assert len(os.read(reader, 2**20)) > 2**14  # as much as it takes is there
    finally:
        os.close(reader)
        os.close(writer)
