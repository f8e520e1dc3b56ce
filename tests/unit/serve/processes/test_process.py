"""The server as a process of its own: the signals that it hears, how it ends, what it imports and weighs."""

import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kanserve import repository
from kanserve.client import Client
from kanserve.errors import KanserveError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from kanserve.serve.settings import Settings
from tests.support.networks import kans
from tests.support.servers import server_process, serving
from tests.support.servers.server_process import bare
from tests.support.servers.serving import WAIT

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def settings(root: Path) -> Settings:
    return Settings(repository=str(root), port=0, model_control="signal")


@pytest.mark.slow
@pytest.mark.extended
def test_sigterm_finishes_what_was_accepted_refuses_what_comes_and_exits_with_0(slow):
    root, fifo = slow
    with (
        server_process.served(settings(root)) as (running, address),
        Client(address) as client,
        ThreadPoolExecutor() as pool,
    ):
        channel, other = grpc.insecure_channel(address), grpc.insecure_channel(address)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == SERVING
        answer = pool.submit(client.predict, "slow", [[WAIT], [0.5]])
        with open(fifo, "w") as gate:  # opens when the model reads it: the call is in flight
            running.send_signal(signal.SIGTERM)
            assert next(watch).status == NOT_SERVING
            assert not client.ready() and not client.ready("slow")
            late = wire.stub(other)  # a new connection, if there is one
            with pytest.raises(grpc.RpcError) as refused:
                late.ModelInfer(pb.ModelInferRequest(model_name="slow"))
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert not answer.done()
            gate.write("go")
        np.testing.assert_allclose(answer.result(60), evaluate(kans.one_edge(), [[WAIT], [0.5]]), rtol=1e-12)
        assert running.wait(60) == 0
        channel.close()
        other.close()


def test_sigint_ends_it_too_and_sighup_finds_new_versions(tmp_path):
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    with server_process.served(settings(tmp_path)) as (running, address), Client(address) as client:
        assert client.metadata("mixed").versions == (1,)
        repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
        repository.publish(tmp_path, "more", serving.artifact("mixed"))
        running.send_signal(signal.SIGHUP)
        news = [server_process.errors_of(running).readline() for _ in range(2)]
        assert news == [f"kanserve: version {n} of '{name}' is loaded\n" for name, n in (("mixed", 2), ("more", 1))]
        line = server_process.errors_of(running).readline()
        assert re.fullmatch(rf"kanserve: serving 2 models: gRPC \((native|grpcio; .+)\) on {address}\n", line)
        assert client.metadata("mixed").versions == (1, 2)
        assert client.metadata("mixed").version == 2
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
        assert server_process.errors_of(running).read() == ""


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_when_it_serves_what_and_when_it_stops(tmp_path, monkeypatch, workers, abstract):
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    name = f"{tmp_path}/notify"  # in Linux's other space of names it may be called as this file is
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"\0{name}" if abstract else name)
        told.settimeout(60)
        monkeypatch.setitem(server_process.ENVIRONMENT, "NOTIFY_SOCKET", f"@{name}" if abstract else name)
        with server_process.served(replace(settings(tmp_path), workers=workers)) as (running, address):
            by = " by 2 processes" if workers == 2 else ""
            status = rf"READY=1\nSTATUS=serving 1 model{by}: gRPC \((native|grpcio; .+)\) on {address}"
            assert re.fullmatch(status, told.recv(1000).decode())
            running.send_signal(signal.SIGTERM)
            assert told.recv(1000) == b"STOPPING=1"
            assert running.wait(60) == 0


def test_who_does_not_listen_to_what_systemd_is_told_harms_nothing(tmp_path, monkeypatch):
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    monkeypatch.setitem(server_process.ENVIRONMENT, "NOTIFY_SOCKET", str(tmp_path / "gone"))
    with server_process.served(settings(tmp_path)) as (running, address), Client(address) as client:
        assert client.ready("mixed")
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("stopping", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_while_it_looks_for_new_versions(tmp_path, stopping):
    os.mkfifo(tmp_path / "fifo")
    repository.publish(tmp_path / "models", "mixed", serving.artifact("mixed"))
    with server_process.served(settings(tmp_path / "models")) as (running, _):
        repository.publish(tmp_path / "models", "late", serving.loading(tmp_path / "fifo"))
        running.send_signal(signal.SIGHUP)
        with open(tmp_path / "fifo", "w"):  # opens when the model is being loaded
            running.send_signal(stopping)
            assert running.wait(60) == 0
        assert server_process.errors_of(running).read() == ""


@pytest.mark.slow
@pytest.mark.extended
def test_a_signal_ends_the_server_before_it_has_loaded_its_first_model(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    repository.publish(tmp_path / "models", "late", serving.loading(tmp_path / "fifo"))
    with server_process.started(settings(tmp_path / "models")) as running:
        with open(tmp_path / "fifo", "w"):
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0
        assert server_process.errors_of(running).read() == ""


def test_a_repository_that_is_gone_changes_nothing_that_is_served(tmp_path):
    root = tmp_path / "models"
    repository.publish(root, "mixed", serving.artifact("mixed"))
    with server_process.served(settings(root)) as (running, address):
        root.rename(tmp_path / "away")
        running.send_signal(signal.SIGHUP)
        assert "cannot be read, nothing changed" in server_process.errors_of(running).readline()
        with Client(address) as client:
            assert client.ready("mixed")


@pytest.mark.slow
@pytest.mark.extended
def test_polling_finds_new_versions_and_explicit_control_loads_what_is_named(tmp_path):
    for name in ("fox", "hen"):
        repository.publish(tmp_path, name, serving.artifact("mixed"))
    polling = Settings(repository=str(tmp_path), port=0, poll_seconds=0.05)  # by default
    with server_process.served(polling) as (running, address), Client(address) as client:
        repository.publish(tmp_path, "fox", serving.artifact("mixed"))
        server_process.said(running, "version 2 of 'fox' is loaded")
        server_process.said(running, "serving 2 models, looking for new versions every 0.05 s")
        assert client.metadata("fox").versions == (1, 2)
    explicit = Settings(repository=str(tmp_path), port=0, model_control="explicit", load=("hen",))
    with server_process.served(explicit) as (_, address), Client(address) as client:
        assert client.ready("hen") and not client.ready("fox")


def test_a_second_sigterm_ends_it_at_once(slow):
    root, fifo = slow
    with (
        server_process.served(settings(root)) as (running, address),
        grpc.insecure_channel(address) as channel,
        Client(address) as client,
    ):
        x = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 1])
        request = pb.ModelInferRequest(
            model_name="slow", inputs=[x], raw_input_contents=[np.array([WAIT], "<f8").tobytes()]
        )
        waiting: Any = wire.stub(channel).ModelInfer.future(request, timeout=60)
        with open(fifo, "w"):  # opens when the call is in flight
            running.send_signal(signal.SIGTERM)
            server_process.until(lambda: not client.ready())
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == -signal.SIGTERM
        assert waiting.exception(60) is not None


def test_what_is_wrong_with_the_settings_is_one_line_and_exit_code_2(tmp_path):
    with server_process.started(settings(tmp_path / "none")) as running:
        said = server_process.errors_of(running).read()
        assert said.startswith("kanserve: ") and said.count("\n") == 1
        assert running.wait(60) == 2


UNUSED = ("onnx", "onnxruntime", "sympy", "torch", "pydantic", "typer", "rich", "matplotlib", "scipy", "pandas")


def asked(model: str, address: str) -> None:
    """One call, whatever comes of it: the first takes memory that the others need too."""
    x = sample(serving.kan(model), 3)
    with Client(address, retries=0) as client, suppress(KanserveError):
        np.testing.assert_allclose(client.predict(model, x), evaluate(serving.kan(model), x), rtol=1e-9)


def imported(running: server_process.Process) -> set[str]:
    """The packages that a process imports until it serves; it must run with PYTHONPROFILEIMPORTTIME."""
    found = set()
    while "serving " not in (line := server_process.errors_of(running).readline()):
        assert line, "it has ended"
        found.add(line.rsplit("|", 1)[-1].strip().partition(".")[0])
    return {name for name in found if name not in sys.stdlib_module_names}


@pytest.mark.slow
@pytest.mark.extended
def test_a_server_of_c_models_imports_the_packages_of_a_bare_one_and_safetensors(tmp_path, monkeypatch):
    repository.publish(tmp_path, "iris", serving.artifact("iris"))
    monkeypatch.setitem(server_process.ENVIRONMENT, "PYTHONPROFILEIMPORTTIME", "1")
    with bare() as running:
        base = imported(running)
    with server_process.started(settings(tmp_path)) as running:
        assert imported(running) - base <= {"kanserve", "safetensors"}


@pytest.mark.slow
@pytest.mark.extended
def test_a_server_of_a_c_model_takes_little_more_memory_than_a_bare_one(tmp_path):
    repository.publish(tmp_path, "iris", serving.artifact("iris"))
    with bare() as running:
        asked("iris", server_process.said(running, "serving").split()[-1])
        base = server_process.memory(running.pid, "VmHWM")
    with server_process.served(settings(tmp_path)) as (running, address):
        asked("iris", address)
        mapped = Path(f"/proc/{running.pid}/maps").read_text()
        weight = server_process.memory(running.pid, "VmHWM")
    print(f"{weight / 2**20:.1f} MiB with a C model, {base / 2**20:.1f} MiB without kanserve")
    assert not [name for name in ("onnxruntime", "libtorch", "libssl", "libcrypto") if f"/{name}" in mapped]
    assert weight < 1.25 * base


@pytest.mark.slow
def test_c_and_numpy_models_are_served_where_nothing_else_can_be_imported(tmp_path):
    for name in ("iris", "mixed"):
        repository.publish(tmp_path, name, serving.artifact(name))
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in (*UNUSED, "kanserve_exporters"):
        (hidden / f"{name}.py").write_text("raise ImportError('it is not to be imported here')\n")
    with server_process.served(settings(tmp_path), first=hidden) as (_, address), Client(address) as client:
        for name in ("iris", "mixed"):
            x = sample(serving.kan(name), 3)
            np.testing.assert_allclose(client.predict(name, x), evaluate(serving.kan(name), x), rtol=1e-9)
            assert client.formula(name)[0].text
            assert client.network(name).edges
            client.differentiate(name, x)


@pytest.mark.slow
@pytest.mark.extended
def test_onnx_is_served_without_torch_sympy_onnx_or_matplotlib_and_only_then_imported():
    code = f"""
import sys
for name in {tuple(name for name in UNUSED if name not in ("onnxruntime", "pydantic", "typer", "rich"))!r}:
    sys.modules[name] = None  # importing it raises
from kanserve.serve.models import loader
from kanserve.serve.server import start
root = {str(serving.folder())!r}
catalog = loader.load(root, backend="c_source")
assert catalog.find("raw").kind == "c_source" and "graph" not in catalog.models, catalog.reasons
assert "onnxruntime" not in sys.modules
server = start(root, port=0)
assert "onnxruntime" in sys.modules
assert server.catalog.find("graph").kind == "onnx_graph"
server.stop()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=server_process.ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_its_first_line_says_the_transport_and_what_chose_it(tmp_path, workers):
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    wanted = Settings(repository=str(tmp_path), port=0, workers=workers, transport="grpcio")
    with server_process.started(wanted) as running:
        line = server_process.said(running, "serving")
    assert "gRPC (grpcio; the setting 'transport' chose it) on 127.0.0.1:" in line
