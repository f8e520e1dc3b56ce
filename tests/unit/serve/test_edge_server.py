"""An edge server as users build and run it: one line of cc, then clients as they are."""

import csv
import json
import os
import re
import select
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kanserve.client import Client
from kanserve.errors import DeadlineError, InputError, KanserveError, NotFoundError, UnreachableError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate, jacobian, softmax
from kanserve.network.training_range import outside
from kanserve.serve.edge_server import edge_server
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from kanserve.serve.transport import native_library
from tests.support.made_once import object_file
from tests.support.networks import kans
from tests.support.programs import skip
from tests.support.servers import keys, serving
from tests.support.servers.request_parameters import IGNORED, REFUSED, request
from tests.support.servers.server_process import until

COMPILED = ("-std=c11", "-O2", "-ffp-contract=off", "-ffunction-sections", "-fdata-sections")
WARNINGS = ("-Wall", "-Wextra", "-Wvla", "-Wshadow", "-Werror")
LINK = ("-Wl,--gc-sections", "-lnghttp2", "-lz", "-lm", "-pthread")
MODELS = {
    "iris": lambda: serving.kan("iris"),
    "raw": kans.raw_features,
    "symbolic": kans.symbolic,
    "table": kans.categories,
    "missing": kans.missing_values,
}

pytestmark = [pytest.mark.slow]


@pytest.fixture(autouse=True, scope="module")
def _libraries() -> None:
    if native_library.library() is None:
        skip("libnghttp2-dev")


@dataclass(frozen=True)
class Running:
    process: "subprocess.Popen[str]"
    address: str
    http: str

    def status(self, field: str) -> int:
        """A field of /proc/PID/status, in kB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(rf"{field}:\s+(\d+) kB", text)[0])


def built(folder: Path, files: Mapping[str, bytes], *linked: str, tls: bool = False) -> Path:
    """The binary, with the flags of the README and all warnings as errors."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    sources = sorted(path for path in files if path.endswith(".c") and "/" not in path)
    flags = [*COMPILED, *WARNINGS]
    if tls:
        sources.append("tls/tls_context.c")
        flags += ["-DKANSERVE_TLS", "-I."]
        linked = (*linked, "-lssl", "-lcrypto")
    objects = [str(object_file(folder, source, flags)) for source in sources]
    command = ["cc", *objects, *linked, *LINK, "-o", "server"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "server"


@contextmanager
def running(binary: Path, *options: str) -> Iterator[Running]:
    """The server until the end, at which it must end well at SIGTERM."""
    command = [str(binary), "--port", "0", "--http-port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert "serving" in line, line
            yield Running(process, line.rsplit(" on ", 1)[1].strip(), re.findall(r"http://[\d.:]+", line)[0])
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code == 0


@pytest.fixture(
    scope="module",
    params=["iris", *(pytest.param(name, marks=pytest.mark.extended) for name in MODELS if name != "iris")],
)
def edge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Running]]:
    name = request.param
    files = dict(edge_server(MODELS[name](), name, version=3))
    with running(built(tmp_path_factory.mktemp(name), files)) as server:
        yield name, server


def rows(name: str) -> np.ndarray:
    """Rows inside and outside the training range, with NaN and infinity."""
    kan = MODELS[name]()
    x = np.random.default_rng(0).uniform(-2, 2, (9, len(kan.inputs)))
    x[3, 0], x[5, -1], x[7] = np.nan, np.inf, 1e6
    return kans.with_codes(kan, x)


def test_predictions_probabilities_and_labels_are_those_of_the_network(edge):
    name, server = edge
    kan, x = MODELS[name](), rows(name)
    with Client(server.address) as client:
        got = client.infer(name, x)
    scores = evaluate(kan, x)
    np.testing.assert_allclose(got.values, scores, rtol=1e-9, atol=1e-9)
    assert got.version == 3 and [*got.outside_rows] == np.flatnonzero(outside(kan, x)).tolist()
    if kan.classes:
        assert got.probabilities is not None and got.labels is not None
        np.testing.assert_allclose(got.probabilities, softmax(scores), rtol=1e-9)
        assert list(got.labels) == ["" if np.isnan(row[0]) else kan.classes[row.argmax()] for row in scores]


def test_the_command_line_predicts_with_it(edge, tmp_path, kanserve):
    def field(one, cell):
        return one.categories[int(cell) % len(one.categories)] if one.categories else cell

    name, server = edge
    kan = MODELS[name]()
    serialization.save(kan, tmp_path / "network.safetensors")
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        lines = [map(field, kan.inputs, row) for row in rows(name)[:3].tolist()]
        csv.writer(file).writerows([[one.name for one in kan.inputs], *lines])
    got, wanted = (
        json.loads(kanserve("predict", model, str(tmp_path / "rows.csv"), "--json")[1])
        for model in (f"{server.address}/{name}", str(tmp_path / "network.safetensors"))
    )
    assert list(got) == list(wanted)
    for column, values in got.items():
        assert values == wanted[column] if column == "class" else values == pytest.approx(wanted[column], rel=1e-9)


def test_derivatives_and_formula_are_those_of_the_server_in_python(edge, tmp_path):
    name, server = edge
    kan, x = MODELS[name](), rows(name)
    with Client(server.address) as client:
        got, slopes = client.differentiate(name, x)
        formulas = client.formula(name)
    np.testing.assert_allclose(got, evaluate(kan, x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slopes, jacobian(kan, x), rtol=1e-8, atol=1e-8)
    from kanserve import repository
    from kanserve.artifact_compiler import compile

    repository.publish(tmp_path, name, compile(kan, ["numpy_source"], name=name))
    with start(Settings(str(tmp_path), port=0)) as python, Client(python.address) as client:
        others = client.formula(name)
    assert [(one.name, one.text, one.latex, one.c) for one in formulas] == [
        (one.name, one.text, one.latex, one.c) for one in others
    ]


def test_what_is_wrong_is_told_with_the_code_of_the_server_in_python(edge):
    name, server = edge
    inputs = len(MODELS[name]().inputs)
    with Client(server.address) as client:
        with pytest.raises(NotFoundError, match="no model 'other'"):
            client.predict("other", rows(name))
        with pytest.raises(NotFoundError, match="version 3"):
            client.predict(name, rows(name), version=2)
        with pytest.raises(InputError, match="one input 'x'"):
            client.predict(name, np.zeros((2, inputs + 1)))
        with pytest.raises(InputError, match=rf"rows of {inputs} numbers"):
            client.differentiate(name, np.zeros((2, inputs + 1)))
        with pytest.raises(KanserveError, match="UNIMPLEMENTED: An edge server has no second derivatives"):
            client.differentiate(name, rows(name), hessian=True)
        assert client.ready(name) and client.predict(name, rows(name)).shape[0] == 9
    with grpc.insecure_channel(server.address) as channel:
        load = wire.stub(channel).RepositoryModelLoad
        with pytest.raises(grpc.RpcError) as refused:
            load(pb.RepositoryModelLoadRequest(model_name=name), timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_parameters_count_as_for_the_server_in_python(edge):
    name, server = edge
    kan, x = MODELS[name](), rows(name)[:1]
    with grpc.insecure_channel(server.address) as channel:
        infer = wire.stub(channel).ModelInfer
        for raw in (True, False):
            for parameters in IGNORED.values():
                answer = infer(request(name, x, raw, parameters), timeout=60)
                y = np.frombuffer(answer.raw_output_contents[0]) if raw else answer.outputs[0].contents.fp64_contents
                np.testing.assert_allclose(y, evaluate(kan, x)[0], rtol=1e-9, atol=1e-9)
            for parameters in REFUSED.values():
                with pytest.raises(grpc.RpcError, match="without shared memory and classification") as refused:
                    infer(request(name, x, raw, parameters), timeout=60)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_triton_s_client_finds_what_it_asks_for(edge):
    triton = pytest.importorskip("tritonclient.grpc")
    name, server = edge
    kan, x = MODELS[name](), rows(name)
    with triton.InferenceServerClient(server.address) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(name, "3")
        assert client.get_server_metadata().name == "kanserve"
        assert client.get_model_metadata(name).inputs[0].shape == [-1, len(kan.inputs)]
        assert client.get_model_config(name).config.backend == "kanserve"
        assert [(one.name, one.state) for one in client.get_model_repository_index().models] == [(name, "READY")]
        tensor = triton.InferInput("x", x.shape, "FP64").set_data_from_numpy(x)
        result = client.infer(name, [tensor], request_id="ä7", compression_algorithm="gzip")
        assert result.get_response().id == "ä7"
        np.testing.assert_allclose(result.as_numpy("y"), evaluate(kan, x), rtol=1e-9, atol=1e-9)
        (counted,) = client.get_inference_statistics(name).model_stats
        assert counted.inference_count >= 9 and counted.inference_stats.success.count == counted.execution_count


def test_health_and_metrics_are_told_over_both_ports(edge):
    name, server = edge
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == 1
        watch.cancel()
    with Client(server.address) as client:
        client.predict(name, rows(name))
    text = urllib.request.urlopen(f"{server.http}/metrics", timeout=60).read().decode()
    count = re.findall(rf'kanserve_edge_rows_total{{model="{name}",version="3"}} (\d+)', text)
    assert int(count[0]) >= 9
    assert urllib.request.urlopen(f"{server.http}/v2/health/ready", timeout=60).status == 200
    for path in ("/", "/metrics/x"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(server.http + path, timeout=60)


def http_socket(server: Running) -> socket.socket:
    host, _, port = server.http.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


@pytest.mark.extended
def test_clients_that_send_nothing_or_a_byte_at_a_time_keep_nobody_from_health(edge):
    """More of them than it serves at once: the oldest are dropped for new ones."""
    _, server = edge
    with ExitStack() as stack:
        silent = [stack.enter_context(http_socket(server)) for _ in range(100)]
        for number, one in enumerate(silent):
            with suppress(OSError):  # it was dropped
                one.sendall(b"GET /metrics HTTP/1.1\r\n"[:number])
            assert urllib.request.urlopen(f"{server.http}/v2/health/live", timeout=60).status == 200
        dripping = stack.enter_context(http_socket(server))
        with suppress(OSError):
            while not select.select([dripping], [], [], 0.05)[0]:  # until it is dropped, though bytes come all the time
                dripping.sendall(b"x")
        descriptors = Path(f"/proc/{server.process.pid}/fd")
        for one in (dripping, *silent):
            with suppress(ConnectionError):
                assert one.recv(1) == b""
        until(lambda: len(list(descriptors.iterdir())) < 50)


def test_http_is_answered_in_pieces_with_a_body_and_after_the_client_s_end(edge):
    _, server = edge

    def answer(*parts: bytes, end: bool = False) -> bytes:
        with http_socket(server) as client:
            for part in parts:
                client.sendall(part)
            if end:
                client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65_536), b""))

    live = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    whole = answer(live)
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n") and whole.endswith(b"{}")
    assert answer(*(bytes([byte]) for byte in live)) == answer(live, end=True) == answer(live + bytes(1000)) == whole
    assert answer(b"POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"a" * 9).startswith(b"HTTP/1.1 405")
    assert answer(b"GET / HTTP/1.1\r\nX: " + b"a" * (4096 - 19)).startswith(b"HTTP/1.1 431")
    for broken in (b"\r\n\r\n", b"GET\0/metrics\r\n\r\n", b"GET \r\n\r\n"):
        assert answer(broken)[:12] in (b"HTTP/1.1 404", b"HTTP/1.1 405")


def test_an_error_shows_whole_characters_of_a_name_that_is_no_model_s(edge):
    _, server = edge
    with Client(server.address) as client:
        for name in ("x" + "ü" * 100, "€" * 100):
            with pytest.raises(NotFoundError, match=f"no model '{name[:20]}.*'. This server has"):
                client.predict(name, np.zeros((1, 1)))
    with grpc.insecure_channel(server.address) as channel:
        service = "/inference.GRPCInferenceService"
        ready = channel.unary_unary(f"{service}/ModelReady", None, None)
        with pytest.raises(grpc.RpcError) as refused:
            ready(b"\x0a\x02\xff\xfe", timeout=60)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        metadata = channel.unary_unary(f"{service}/ModelMetadata", None, None)
        with pytest.raises(grpc.RpcError) as refused:
            metadata(b"", timeout=60)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_it_takes_little_memory_and_ends_at_sigterm_while_calls_go_on(tmp_path):
    files = dict(edge_server(serving.kan("iris"), "iris"))
    binary = built(tmp_path, files, "-static", "-s")
    assert binary.stat().st_size <= 1_500_000
    with running(binary) as server, Client(server.address) as client:
        for _ in range(300):
            client.predict("iris", np.zeros((64, 2)))
        assert server.status("VmRSS") <= 5_000
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises((UnreachableError, DeadlineError)):
            for _ in range(100_000):
                client.predict("iris", np.zeros((64, 2)))


def test_it_says_how_it_is_used_and_checks_itself(tmp_path):
    binary = built(tmp_path, dict(edge_server(kans.symbolic(), "law", precision="float")))

    def said(*options: str) -> tuple[int, str]:
        done = subprocess.run([binary, *options], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    code, text = said("--help")
    assert code == 0 and "--http-port" in text and "'law'" in text
    assert said("--check")[0] == 0 and "golden rows come out right" in said("--check")[1]
    assert "nghttp2" in said("--version")[1]
    for wrong in (["--port", "x"], ["--port", "70000"], ["--port"], ["--nothing", "1"], ["--host", "nowhere"]):
        code, text = said(*wrong)
        assert code == 2 and text.startswith("kanserve: ") and len(text.splitlines()) == 1, wrong
    with running(binary) as server:
        x = np.random.default_rng(1).uniform(0.2, 1, (5, len(kans.symbolic().inputs)))
        with Client(server.address) as client:
            got = client.predict("law", x)
            np.testing.assert_allclose(got, evaluate(kans.symbolic(), x), rtol=1e-4, atol=1e-5)
        taken = server.address.rsplit(":", 1)[1]
        assert said("--port", taken) == (2, "kanserve: 127.0.0.1: Address already in use\n")


def test_a_wrong_golden_row_keeps_it_from_serving(tmp_path):
    files = dict(edge_server(kans.symbolic(), "law"))
    text = files["law.c"].decode()
    changed = re.sub(r"(golden_y\[[^=]*= \{\s*)", r"\g<1>1e9 + ", text, count=1)
    assert changed != text
    binary = built(tmp_path, {**files, "law.c": changed.encode()})
    done = subprocess.run([binary, "--port", "0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "golden rows" in done.stderr


@pytest.mark.extended
def test_names_of_classes_never_become_code(tmp_path):
    kan = serving.kan("iris")
    from dataclasses import replace

    classes = ('"; system("touch owned"); //', "??/\n\\", "@answers@ ä %s")
    hostile = replace(kan, classes=classes)
    with running(built(tmp_path, dict(edge_server(hostile, "iris")))) as server, Client(server.address) as client:
        found = client.infer("iris", np.random.default_rng(0).uniform(-4, 4, (200, 2))).labels
        assert found is not None and {*found} <= {*classes} and len({*found}) > 1
        assert client.metadata("iris").classes == classes
    assert not (tmp_path / "owned").exists()


@pytest.mark.extended
def test_tls_with_client_certificates_is_an_option_of_the_build(tmp_path):
    authority = keys.authority()
    certificate, key = authority.pair("server").write(tmp_path, "server")
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    files = dict(edge_server(kans.symbolic(), "law"))
    binary = built(tmp_path, files, tls=True)
    files_of_tls = ("--tls-certificate", certificate, "--tls-key", key, "--tls-client-ca", str(tmp_path / "ca.crt"))
    with running(binary, *files_of_tls) as server:
        shown = authority.pair("someone")
        port = server.address.rsplit(":", 1)[1]
        for pair, ready in (((shown.certificate, shown.key), True), ((None, None), False)):
            credentials = grpc.ssl_channel_credentials(authority.certificate, pair[1], pair[0])
            with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
                ask = wire.stub(channel).ServerReady
                if ready:
                    assert ask(pb.ServerReadyRequest(), timeout=60, wait_for_ready=True).ready
                else:
                    with pytest.raises(grpc.RpcError) as refused:
                        ask(pb.ServerReadyRequest(), timeout=5)
                    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_command_writes_the_folder_and_takes_no_other_option(kanserve, tmp_path):
    serialization.save(kans.symbolic(), tmp_path / "law.safetensors")
    out = tmp_path / "server"
    source = str(tmp_path / "law.safetensors")
    arguments = ("export", source, "--to", "edge-server", "--name", "law", "--out", str(out))
    code, said, _ = kanserve(*arguments)
    assert code == 0 and "edge_main.c" in said
    assert {"README.md", "CMakeLists.txt", "law.service", "law.c", "edge_model.c"} <= {*os.listdir(out)}
    assert kanserve(*arguments)[0] != 0  # it is there already
    code, _, error = kanserve(*arguments[:-1], str(tmp_path / "other"), "--gradient")
    assert code != 0 and "no other option" in error
