"""`kanserve serve` as a command: it becomes the process that serves, with what it needs and no more."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kanserve.client import Client
from tests.support.paths import ROOT
from tests.support.servers import server_process, serving


@contextmanager
def running(*arguments: str, cwd: Path = ROOT) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command once it serves, and its address."""
    command = [sys.executable, "-m", "kanserve", "serve", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=server_process.ENVIRONMENT, cwd=cwd)
    try:
        yield process, server_process.said(process, "serving").split()[-1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.extended
def test_the_command_becomes_the_server_and_drains(repository):
    with running(str(repository), "--port", "0", "--threads", "2") as (process, address):
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        assert b"kanserve.serve" in command and b"serve" not in command
        with Client(address) as client:
            assert client.ready("raw")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


@pytest.mark.slow
@pytest.mark.extended
def test_the_settings_are_read_and_nothing_is_left_of_them(repository):
    with running(str(repository), "--port", "0") as (process, _):
        links = [
            os.readlink(f"/proc/{process.pid}/fd/{descriptor}") for descriptor in os.listdir(f"/proc/{process.pid}/fd")
        ]
        assert not [link for link in links if "settings" in link]


@pytest.mark.slow
@pytest.mark.extended
def test_what_lies_in_the_working_folder_is_not_imported(repository, tmp_path):
    for name in ("numpy", "grpc", "json", "kanserve_exporters"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')")
    # `-m` itself looks there first; an installed `kanserve` does not.
    start = "import sys; sys.argv = ['kanserve', 'serve', *sys.argv[1:]]; from kanserve.__main__ import main; main()"
    command = [sys.executable, "-P", "-c", start, str(repository), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=server_process.ENVIRONMENT, cwd=tmp_path)
    try:
        assert "models" in server_process.said(process, "serving")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.extended
def test_the_process_that_serves_a_c_model_imports_no_more_than_it_needs(tmp_path):
    from kanserve import repository

    repository.publish(tmp_path, "raw", serving.artifact("iris"))
    command = [sys.executable, "-X", "importtime", "-m", "kanserve", "serve", str(tmp_path), "--port", "0"]
    environment = server_process.ENVIRONMENT | {"PYTHONPROFILEIMPORTTIME": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    modules = set()
    try:
        for line in server_process.errors_of(process):
            modules.add(line.rsplit("|", 1)[-1].strip())
            if "serving 1 model" in line:
                break
            if line.rsplit("|", 1)[-1].strip() == "kanserve.serve.configuration.settings_sources":
                launcher, modules = modules, set()
    finally:
        process.kill()
        process.communicate()
    heavy = {"onnx", "onnxruntime", "sympy", "torch", "typer", "rich"}
    assert "pydantic_core" in launcher and not launcher & (heavy | {"grpc", "pydantic"})
    assert "grpc" in modules
    assert not modules & (heavy | {"pydantic_core", "prometheus_client", "cryptography", "fsspec", "numpy.polynomial"})


def test_the_collector_does_not_visit_the_modules_of_a_server(tmp_path):
    start = (
        "import gc; from kanserve.cli.commands.serve import hand_over; from kanserve.serve import __main__; "
        "from kanserve.serve.settings import Settings; "
        f"ended = __main__.main([str(hand_over(Settings({str(tmp_path / 'none')!r})))]); "
        "print(ended, gc.isenabled(), gc.get_freeze_count() > len(gc.get_objects()))"
    )
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["2", "True", "True"], done.stderr


@pytest.mark.slow
@pytest.mark.extended
def test_a_server_whose_standard_streams_are_closed_serves(repository, tmp_path):
    socket = str(tmp_path / "socket")
    command = [sys.executable, "-m", "kanserve", "serve", str(repository), "--unix-socket", socket, "--access-log", "-"]
    closed = "import os, sys; os.closerange(0, 3); os.execv(sys.executable, sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", closed, *command], env=server_process.ENVIRONMENT, cwd=ROOT)
    try:
        server_process.until(lambda: os.path.exists(socket) or process.poll() is not None, 30)
        with Client(f"unix:{socket}") as client:
            assert client.ready()
        assert [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)] == ["/dev/null"] * 3
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["--check-config"]])
def test_a_reader_who_has_seen_enough_is_no_error(repository, words):
    command = [sys.executable, "-m", "kanserve", "serve", repository, *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=server_process.ENVIRONMENT, cwd=ROOT
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=60)) == ("", 0)
    process.stderr.close()
