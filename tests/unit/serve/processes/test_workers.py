"""Several processes on one port: they share the calls, change together, are replaced, and end together."""

import os
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kanserve import repository
from kanserve.client import Client
from kanserve.errors import InputError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve.processes import supervisor
from kanserve.serve.settings import Settings
from tests.support.servers import server_process, serving
from tests.support.servers.loop_server import needs_native


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with one model."""
    publish(tmp_path / "models", "fox")
    return tmp_path / "models"


def publish(root: Path, name: str, kind: str = "mixed") -> None:
    repository.publish(root, name, serving.fatal() if kind == "fatal" else serving.artifact(kind))


def settings(models: Path, **changed: Any) -> Settings:
    two = Settings(repository=str(models), port=0, workers=2, anonymous=("predict", "read", "manage"))
    return replace(two, **({"model_control": "signal"} | changed))


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A stub over a connection of its own: the kernel deals it to one of the workers."""
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield wire.stub(channel)


def versions(address: str, name: str, connections: int = 16) -> set[tuple[str, ...]]:
    """What is loaded of a model, as so many connections see it; one worker is missed once in 32,000 times."""
    seen: set[tuple[str, ...]] = set()
    for _ in range(connections):
        with connected(address) as stub:
            try:
                found = stub.ModelMetadata(pb.ModelMetadataRequest(name=name), timeout=60)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND
                seen.add(())
            else:
                seen.add(tuple(found.versions))
    return seen


def reasons(address: str, name: str) -> set[str]:
    with connected(address) as stub:
        found = stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=60).models
    return {status.reason for status in found if status.name == name and status.reason}


@pytest.mark.slow
def test_connections_are_dealt_to_all_and_sigterm_ends_all_with_0(models):
    with server_process.served(settings(models)) as (running, address), ExitStack() as stack:
        both = server_process.workers(running.pid)
        assert len(both) == 2
        before = {process: sockets(process) for process in both}
        for _ in range(16):
            stub = stack.enter_context(connected(address))
            assert stub.ModelReady(pb.ModelReadyRequest(name="fox"), timeout=60).ready
        assert all(sockets(process) > before[process] for process in both)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        assert server_process.errors_of(running).read() == ""
        assert not any(map(alive, both))


def sockets(process: int) -> int:
    count = 0
    for descriptor in os.listdir(f"/proc/{process}/fd"):
        with suppress(FileNotFoundError):  # closed since it was listed
            count += os.readlink(f"/proc/{process}/fd/{descriptor}").startswith("socket:")
    return count


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_loading_and_unloading_by_one_worker_is_done_by_all_before_it_is_answered(models):
    with server_process.served(settings(models)) as (_, address), connected(address) as stub:
        publish(models, "fox")
        assert versions(address, "fox") == {("1",)}
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="fox"), timeout=60)
        assert versions(address, "fox") == {("1", "2")}
        stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="fox"), timeout=60)
        assert versions(address, "fox") == {()}
        with pytest.raises(grpc.RpcError) as unknown:
            stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="hen"), timeout=60)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.slow
@pytest.mark.extended
def test_sighup_and_polling_reach_all(models):
    with server_process.served(settings(models)) as (running, address):
        publish(models, "hen")
        running.send_signal(signal.SIGHUP)
        line = server_process.said(running, "serving")
        assert re.search(r"serving 2 models by 2 processes: gRPC \((native|grpcio; .+)\) on", line)
        assert versions(address, "hen") == {("1",)}
    with server_process.served(settings(models, model_control="poll", poll_seconds=0.05)) as (running, address):
        publish(models, "hen")
        server_process.said(running, "version 2 of 'hen' is loaded")
        server_process.said(running, "serving 2 models by 2 processes, looking for new versions every 0.05 s")
        assert versions(address, "hen") == {("1", "2")}


@pytest.mark.slow
@pytest.mark.extended
def test_a_worker_that_is_killed_is_replaced_at_once_and_the_new_one_has_what_was_loaded_by_hand(models):
    publish(models, "hen")
    with server_process.served(settings(models, model_control="explicit", load=("hen",))) as (running, address):
        with connected(address) as stub:
            stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="fox"), timeout=60)
            stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="hen"), timeout=60)
        before = server_process.workers(running.pid)
        for killed in before:
            os.kill(killed, signal.SIGKILL)
        server_process.until(lambda: len(set(server_process.workers(running.pid)) - set(before)) == 2)
        for _ in before:  # after a pause it would say of how many seconds
            assert "SIGKILL; another takes its place now" in server_process.said(running, "SIGKILL")
        server_process.until(lambda: reachable(address))
        server_process.until(lambda: versions(address, "fox") == {("1",)})
        assert versions(address, "hen") == {()}


def reachable(address: str) -> bool:
    with connected(address) as stub:
        try:
            return bool(stub.ServerReady(pb.ServerReadyRequest(), timeout=5).ready)
        except grpc.RpcError:
            return False


@pytest.mark.slow
def test_a_version_that_ends_two_workers_is_not_loaded_again_and_the_index_says_why(models):
    with server_process.served(settings(models)) as (running, address):
        publish(models, "fox", "fatal")
        with connected(address) as stub, pytest.raises(grpc.RpcError) as refused:
            # The connection may be to the worker that ends over it: then nobody is left to answer.
            stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="fox"), timeout=60)
        assert refused.value.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE)
        assert "version 2 of 'fox' is not loaded again" in server_process.said(running, "not loaded again")
        server_process.until(lambda: versions(address, "fox") == {("1",)})
        server_process.until(
            lambda: all("SIGABRT" in reason for reason in reasons(address, "fox")) and reasons(address, "fox")
        )
        assert len(server_process.workers(running.pid)) == 2


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(("code", "how"), [("os.abort()", "SIGABRT"), ("os._exit(0)", "exit code 0")])
def test_a_version_that_is_fatal_at_the_start_is_left_out(models, code, how):
    repository.publish(models, "hen", serving.doing(f"import os\n{code}\n"))
    with server_process.served(settings(models)) as (_, address):
        assert versions(address, "fox") == {("1",)} and versions(address, "hen") == {()}
        assert all(how in reason for reason in reasons(address, "hen"))


@pytest.mark.slow
@pytest.mark.extended
def test_a_worker_that_hangs_is_replaced_and_the_change_that_it_kept_waiting_is_made(tmp_path, models):
    hurry = "from kanserve.serve.processes import supervisor\nsupervisor.LOOK_SECONDS = 1.5\n"
    (tmp_path / "sitecustomize.py").write_text(hurry)
    with server_process.served(settings(models), tmp_path) as (running, address):
        hung, other = server_process.workers(running.pid)
        os.kill(hung, signal.SIGSTOP)
        publish(models, "hen")
        running.send_signal(signal.SIGHUP)
        assert f"process {hung}, hangs and is killed" in server_process.said(running, "hangs")
        server_process.said(running, "serving 2 models by 2 processes")
        assert hung not in server_process.workers(running.pid) and other in server_process.workers(running.pid)
        assert versions(address, "hen") == {("1",)}


@pytest.mark.slow
@pytest.mark.extended
def test_workers_that_end_in_a_loop_are_started_seldom_until_they_live_and_the_rest_serves_meanwhile(tmp_path, models):
    flag = tmp_path / "flag"
    repository.publish(models, "hen", serving.fatal(flag))  # which all have loaded once, so that it is not to blame
    with server_process.served(settings(models)) as (running, address):
        first, second = server_process.workers(running.pid)
        flag.touch()
        os.kill(first, signal.SIGKILL)
        server_process.said(running, "another takes its place in 1 seconds")
        assert versions(address, "hen") == {("1",)}
        assert second in server_process.workers(running.pid)
        flag.unlink()
        server_process.until(lambda: len(server_process.workers(running.pid)) == 2)


@pytest.mark.slow
@pytest.mark.extended
def test_what_keeps_every_worker_from_starting_ends_the_server(tmp_path, models):
    for wanted, text in (
        (settings(tmp_path / "none"), "does not exist"),
        (settings(models, tls_certificate=str(tmp_path / "none"), tls_key=str(tmp_path / "none")), "certificate"),
    ):
        with server_process.started(wanted) as running:
            assert text in server_process.errors_of(running).read()
            assert running.wait(60) == 2


@pytest.mark.slow
@pytest.mark.extended
def test_workers_end_when_their_supervisor_is_gone(models):
    with server_process.served(settings(models)) as (running, _):
        both = server_process.workers(running.pid)
        running.kill()
        running.wait(60)
        server_process.until(lambda: not any(map(alive, both)))


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_is_replaced_too(models):
    with server_process.served(settings(models)) as (running, _):
        first, second = server_process.workers(running.pid)
        os.kill(first, signal.SIGTERM)
        server_process.until(lambda: len(set(server_process.workers(running.pid)) - {first}) == 2)
        assert second in server_process.workers(running.pid)


@pytest.mark.slow
@pytest.mark.extended
def test_counts_are_those_of_all_workers_and_of_those_that_are_gone(tmp_path, models):
    (tmp_path / "sitecustomize.py").write_text(
        "from kanserve.serve.processes import worker\nworker.PUSH_SECONDS = 0.1\n"
    )
    with server_process.served(settings(models), tmp_path) as (running, address):
        for _ in range(12):
            with Client(address) as client:
                client.predict("fox", [[0.0, 0.0]])
        assert inferences(address) == 12
        time.sleep(0.5)  # the counts of a worker that is killed are those that it has told
        os.kill(server_process.workers(running.pid)[0], signal.SIGKILL)
        server_process.said(running, "SIGKILL")
        server_process.until(lambda: reachable(address))
        assert inferences(address) == 12


def inferences(address: str) -> int:
    with connected(address) as stub:
        (one,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="fox"), timeout=60).model_stats
    return int(one.execution_count)


@pytest.mark.slow
def test_each_worker_has_a_core_of_its_own_where_that_is_asked_for(models):
    with server_process.served(settings(models, pin=True)) as (running, _):
        cores = [os.sched_getaffinity(worker) for worker in server_process.workers(running.pid)]
    assert [len(core) for core in cores] == [1, 1]
    assert len(set.union(*cores)) == min(2, len(os.sched_getaffinity(0)))


def test_several_processes_do_not_listen_on_one_socket_file(tmp_path, models):
    with pytest.raises(InputError, match="Only one process"):
        supervisor.run(settings(models, unix_socket=str(tmp_path / "socket")), 2)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("stopping", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_while_they_load(tmp_path, stopping):
    os.mkfifo(tmp_path / "fifo")
    repository.publish(tmp_path / "models", "late", serving.loading(tmp_path / "fifo"))
    with server_process.started(settings(tmp_path / "models")) as running:
        with open(tmp_path / "fifo", "w"):  # opens when the model is being loaded
            running.send_signal(stopping)
            assert running.wait(60) == 0
        assert server_process.errors_of(running).read() == ""


@pytest.mark.slow
@pytest.mark.extended
def test_another_server_does_not_take_the_port_of_several_processes(models):
    with server_process.served(settings(models)) as (_, address), connected(address) as stub:
        port = int(address.rsplit(":", 1)[1])
        for workers in (1, 2):
            with server_process.started(settings(models, port=port, workers=workers)) as other:
                assert f"Port {port} of 127.0.0.1 is in use" in server_process.errors_of(other).read()
                assert other.wait(60) == 2
        assert stub.ServerReady(pb.ServerReadyRequest(), timeout=60).ready


@pytest.mark.slow
def test_the_metrics_are_those_of_all_whichever_process_is_asked(models):
    with server_process.started(settings(models, http_port=0)) as running:
        said = server_process.said(running, "serving")
        (url,) = re.findall(r"metrics at (\S+),", said)
        assert f"REST at {url.removesuffix('metrics')}v2, " in said
        for _ in range(4):
            with urllib.request.urlopen(url, timeout=60) as answer:
                lines = answer.read().decode().splitlines()
            assert "kanserve_workers 2.0" in lines
            assert {line.split("{")[1].split("}")[0] for line in lines if line.startswith("process_start_time")} == {
                'worker="0"',
                'worker="1"',
            }


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("workers", [1, 2])
def test_a_repository_that_is_gone_is_said_once_and_changes_nothing_that_is_served(models, workers):
    polling = settings(models, workers=workers, model_control="poll", poll_seconds=0.05)
    with server_process.served(polling) as (running, address):
        models.rename(models.with_name("away"))
        server_process.said(running, "cannot be read, nothing changed")
        assert versions(address, "fox") == {("1",)}
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        assert server_process.errors_of(running).read() == ""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_goes_on_in_a_new_access_log(tmp_path, models, workers):
    log, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    with server_process.served(settings(models, workers=workers, access_log=str(log))) as (running, address):
        assert versions(address, "fox") == {("1",)}
        log.rename(rotated)
        running.send_signal(signal.SIGHUP)
        server_process.said(running, "serving")
        before = len(rotated.read_text().splitlines())
        assert versions(address, "fox") == {("1",)}
        assert len(rotated.read_text().splitlines()) == before == 16
        assert len(log.read_text().splitlines()) == 16


@pytest.mark.slow
@pytest.mark.extended
def test_a_model_that_was_named_at_the_start_and_is_gone_keeps_no_worker_from_being_replaced(models):
    publish(models, "hen")
    with server_process.served(settings(models, model_control="explicit", load=("fox", "hen"))) as (running, address):
        shutil.rmtree(models / "hen")
        before = server_process.workers(running.pid)
        os.kill(before[0], signal.SIGKILL)
        server_process.said(running, "SIGKILL")
        server_process.until(lambda: versions(address, "hen") == {()})
        assert len(server_process.workers(running.pid)) == 2
        assert versions(address, "fox") == {("1",)}


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_never_ends_keeps_neither_a_worker_nor_the_end(tmp_path, workers):
    needs_native()
    repository.publish(tmp_path / "models", "endless", serving.endless(tmp_path))
    ends = settings(tmp_path / "models", workers=workers, grace_seconds=1.0)
    with server_process.served(ends) as (running, address), grpc.insecure_channel(address) as channel:
        row = np.array([[serving.ENDLESS, 1e5]])
        asked = wire.stub(channel).ModelInfer.future(serving.infer_request("endless", row))
        if workers == 2:
            server_process.said(running, "a model computes without end")  # by itself: the supervisor would need 40 s
            server_process.said(running, "another takes its place")
            server_process.until(lambda: reachable(address))
        else:
            before = server_process.busy(running.pid)
            server_process.until(lambda: server_process.busy(running.pid) > before + 1)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0 and asked.exception() is not None
