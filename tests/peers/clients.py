"""Other projects' clients, unmodified, against a server process; each call that works is one line.

    make clients

Each function of CLIENTS yields the name of a call once it has answered what it should. KServe's client wants an
environment of its own, which `make clients` makes; the tests run the others.
"""

import asyncio
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import _h2load as h2load
from kanserve.client import Client
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from kanserve.serve.settings import Settings
from tests.support.paths import ROOT
from tests.support.servers import server_process, serving
from tests.support.servers.rest_port import call, infer, output

KSERVE = ROOT / ".venv/.peers-kserve/bin/python"
TRITON_HTTP = ROOT / ".venv/.peers-mlserver/bin/python"  # MLServer comes with Triton's HTTP client
MODEL = "raw"
SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
    "inference.GRPCInferenceService",
    "kanserve.v1.FormulaService",
}


@dataclass(frozen=True)
class Addresses:
    grpc: str
    http: str
    tls: bool = False
    rest: bool = True


@contextmanager
def server() -> Iterator[Addresses]:
    """A process that serves, where whoever comes may load and unload too."""
    wanted = Settings(str(serving.folder()), port=0, http_port=0, anonymous=("predict", "read", "manage"))
    with server_process.started(wanted) as running:
        line = server_process.said(running, "serving")
        found = re.search(r"http://(\S+)/metrics", line)
        assert found is not None, line
        yield Addresses(line.split()[-1], found[1])


def _rows() -> tuple[np.ndarray, np.ndarray]:
    """Rows, and what the model says of them."""
    kan = serving.kan(MODEL)
    x = sample(kan, 5, seed=0)
    return x, evaluate(kan, x)


def _tensor(x: np.ndarray) -> triton.InferInput:
    made = triton.InferInput("x", list(x.shape), "FP64")
    made.set_data_from_numpy(x)
    return made


def _right(result: Any) -> None:
    np.testing.assert_allclose(result.as_numpy("y"), _rows()[1], rtol=1e-9, atol=1e-12)


def tritonclient_on_one_model(at: Addresses) -> Iterator[str]:
    """What an edge server answers too."""
    inputs = [_tensor(_rows()[0])]
    with triton.InferenceServerClient(at.grpc) as client:
        assert client.is_server_live()
        yield "is_server_live"
        assert client.is_server_ready()
        yield "is_server_ready"
        assert client.is_model_ready(MODEL) and client.is_model_ready(MODEL, "1")
        yield "is_model_ready"
        assert client.get_server_metadata().name == "kanserve"
        yield "get_server_metadata"
        assert [variable.name for variable in client.get_model_metadata(MODEL).inputs] == ["x"]
        yield "get_model_metadata"
        assert client.get_model_config(MODEL).config.name == MODEL
        yield "get_model_config"
        _right(client.infer(MODEL, inputs))
        yield "infer"
        for algorithm in ("gzip", "deflate"):
            _right(client.infer(MODEL, inputs, compression_algorithm=algorithm))
            yield f"infer, {algorithm}"
        answers: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        client.async_infer(MODEL, inputs, lambda result, error: answers.put((result, error)))
        result, error = answers.get(timeout=60)
        assert error is None
        _right(result)
        yield "async_infer"
        assert client.get_inference_statistics(MODEL).model_stats[0].inference_stats.success.count >= 2
        yield "get_inference_statistics"
        assert MODEL in {model.name for model in client.get_model_repository_index().models}
        yield "get_model_repository_index"


def tritonclient(at: Addresses) -> Iterator[str]:
    yield from tritonclient_on_one_model(at)
    inputs = [_tensor(_rows()[0])]
    with triton.InferenceServerClient(at.grpc) as client:
        answers: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        for _ in range(3):
            client.async_stream_infer(MODEL, inputs)
        for _ in range(3):
            result, error = answers.get(timeout=60)
            assert error is None
            _right(result)
        client.stop_stream()
        yield "start_stream, async_stream_infer, stop_stream"
        client.unload_model(MODEL)
        assert not client.is_model_ready(MODEL)
        yield "unload_model"
        client.load_model(MODEL)
        assert client.is_model_ready(MODEL)
        _right(client.infer(MODEL, inputs))
        yield "load_model"


def tritonclient_aio_on_one_model(at: Addresses) -> Iterator[str]:
    """What an edge server answers too."""
    yield from asyncio.run(_tritonclient_aio_on_one_model(at))


def tritonclient_aio(at: Addresses) -> Iterator[str]:
    yield from tritonclient_aio_on_one_model(at)
    yield from asyncio.run(_tritonclient_aio(at))


async def _tritonclient_aio_on_one_model(at: Addresses) -> list[str]:
    inputs, done = [_tensor(_rows()[0])], []
    async with triton_aio.InferenceServerClient(at.grpc) as client:
        assert await client.is_server_live()
        done.append("is_server_live")
        assert await client.is_server_ready()
        done.append("is_server_ready")
        assert await client.is_model_ready(MODEL)
        done.append("is_model_ready")
        assert (await client.get_server_metadata()).name == "kanserve"
        done.append("get_server_metadata")
        assert (await client.get_model_metadata(MODEL)).name == MODEL
        done.append("get_model_metadata")
        assert (await client.get_model_config(MODEL)).config.name == MODEL
        done.append("get_model_config")
        _right(await client.infer(MODEL, inputs))
        done.append("infer")
        _right(await client.infer(MODEL, inputs, compression_algorithm="gzip"))
        done.append("infer, gzip")
        assert (await client.get_inference_statistics(MODEL)).model_stats[0].inference_count
        done.append("get_inference_statistics")
        assert MODEL in {model.name for model in (await client.get_model_repository_index()).models}
        done.append("get_model_repository_index")
    return done


async def _tritonclient_aio(at: Addresses) -> list[str]:
    inputs, done = [_tensor(_rows()[0])], []
    async with triton_aio.InferenceServerClient(at.grpc) as client:

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for _ in range(3):
                yield {"model_name": MODEL, "inputs": inputs}

        count = 0
        async for result, error in client.stream_infer(requests()):
            assert error is None
            _right(result)
            count += 1
        assert count == 3
        done.append("stream_infer")
        await client.unload_model(MODEL)
        assert not await client.is_model_ready(MODEL)
        done.append("unload_model")
        await client.load_model(MODEL)
        assert await client.is_model_ready(MODEL)
        done.append("load_model")
    return done


def perf_analyzer(at: Addresses) -> Iterator[str]:
    for model, options in ((MODEL, ["-b", "1"]), ("graph", ["-b", "16"]), ("single", ["--streaming", "--async"])):
        yield from perf_analyzed(at, model, options)


def perf_analyzed(at: Addresses, model: str, options: list[str]) -> Iterator[str]:
    package = find_spec("perf_analyzer")
    assert package is not None and package.origin is not None
    program = Path(package.origin).parent / "bin" / "perf_analyzer"
    # Any spread will do (-s, in per cent): this asks whether it can measure, not what it measures.
    measure = ["-i", "grpc", "-u", at.grpc, "--measurement-interval", "100", "-s", "100000"]
    with TemporaryDirectory() as folder:
        command = [str(program), "-m", model, *measure, *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert "Throughput: " in done.stdout and "Failed" not in said, said  # it exits with 0 when it fails too
    yield " ".join(["-m", model, *options])


def grpc_health(at: Addresses) -> Iterator[str]:
    serving_status = health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(at.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService", "kanserve.v1.FormulaService"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60).status == serving_status
        yield "Check"
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == serving_status
        watch.cancel()
        yield "Watch"


def nghttp2_h2load(at: Addresses) -> Iterator[str]:
    """Requests that differ in nothing, on one connection and on several, encrypted where the server is."""
    x, y = _rows()
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=x.shape)
    request = pb.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=[x.tobytes()])
    for connections, in_flight in ((1, 64), (10, 10)):
        load = h2load.Load(at.grpc, request.SerializeToString(), in_flight, 1000, connections=connections, tls=at.tls)
        answered = h2load.run(load, os.sched_getaffinity(0))
        # An error has no data, and an answer at least that of its outputs.
        assert answered.count == 1000 and not answered.failed and answered.data > 1000 * y.nbytes, answered
        yield f"1000 requests, {connections} connection{'s' * (connections > 1)}, {in_flight} in flight"


def grpc_reflection(at: Addresses) -> Iterator[str]:
    with grpc.insecure_channel(at.grpc) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) >= SERVICES
        yield "list"
        pool = DescriptorPool(database)
        for service in sorted(SERVICES):
            methods = pool.FindServiceByName(service).methods
            assert methods and all(method.input_type.full_name and method.output_type.full_name for method in methods)
            yield f"describe {service}: {', '.join(method.name for method in methods)}"


def prometheus(at: Addresses) -> Iterator[str]:
    with urllib.request.urlopen(f"http://{at.http}/metrics", timeout=60) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    assert any(family.samples for family in families if family.name.startswith("kanserve_"))
    yield f"{len(families)} metrics, {sum(len(family.samples) for family in families)} samples"


def health_over_http(at: Addresses) -> Iterator[str]:
    for path in ("/v2/health/live", "/v2/health/ready"):
        with urllib.request.urlopen(f"http://{at.http}{path}", timeout=60) as answer:
            assert answer.status == 200
        yield path


def one_process(at: Addresses) -> Iterator[str]:
    """Both packages register the same names of messages, each under a file of its own."""
    lines = ["import tritonclient.grpc as triton", "from kanserve.client import Client"]
    for order in (lines, lines[::-1]):
        use = [
            f"assert triton.InferenceServerClient({at.grpc!r}).is_model_ready({MODEL!r})",
            f"with Client({at.grpc!r}) as client: assert client.ready({MODEL!r})",
        ]
        code = "\n".join([*order, *use])
        done = subprocess.run(
            [sys.executable, "-c", code], env=server_process.ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        yield ", then ".join(line.split()[1].partition(".")[0] for line in order)


def kanserve_client(at: Addresses) -> Iterator[str]:
    x, y = _rows()
    with Client(at.grpc) as client:
        np.testing.assert_allclose(client.predict(MODEL, x), y, rtol=1e-9, atol=1e-12)
        yield "predict, in the process of tritonclient"


def rest(at: Addresses) -> Iterator[str]:
    """By the standard library."""
    x, y = _rows()
    found = call(at.http, f"/v2/models/{MODEL}/infer", infer(x))
    np.testing.assert_allclose(np.reshape(output(found), y.shape), y, rtol=1e-9, atol=1e-12)
    yield "infer"
    assert call(at.http, f"/v2/models/{MODEL}/formula").json["outputs"]
    yield "formula"
    assert np.shape(call(at.http, f"/v2/models/{MODEL}/gradient", {"rows": x.tolist()}).json["values"]) == y.shape
    yield "gradient"


def kserve(at: Addresses) -> Iterator[str]:
    yield from _elsewhere(KSERVE, "kserve_client.py", at.grpc, at.http if at.rest else "-")


def triton_http(at: Addresses) -> Iterator[str]:
    yield from _elsewhere(TRITON_HTTP, "triton_http_client.py", at.http)


def _elsewhere(python: Path, script: str, *addresses: str) -> Iterator[str]:
    """In an environment of its own; what it prints are the calls."""
    x, y = _rows()
    command = [str(python), str(Path(__file__).with_name(script)), *addresses, MODEL, repr(x.tolist())]
    done = subprocess.run([*command, repr(y.tolist())], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    yield from done.stdout.splitlines()


Calls = Callable[[Addresses], Iterator[str]]
CLIENTS: dict[str, Calls] = {
    "tritonclient": tritonclient,
    "tritonclient.aio": tritonclient_aio,
    "perf_analyzer": perf_analyzer,
    "grpc_health": grpc_health,
    "grpc_reflection": grpc_reflection,
    "prometheus_client": prometheus,
    "http": health_over_http,
    "REST": rest,
    "one process": one_process,
    "kanserve.client": kanserve_client,
}


def elsewhere() -> tuple[dict[str, Calls], list[str]]:
    """The clients that are not packages of this environment, and a line for each that is not there."""
    there = {
        "kserve": (kserve, KSERVE.exists()),
        "tritonclient.http": (triton_http, TRITON_HTTP.exists()),
        "h2load": (nghttp2_h2load, h2load.there()),
    }
    missing = [f"{name}: not installed here, so not tried" for name, (_, found) in there.items() if not found]
    return {name: client for name, (client, found) in there.items() if found}, missing


def tried(clients: Mapping[str, Calls], at: Addresses, server: str = "") -> int:
    """How many fail; a line for each call that works, and for each client that fails."""
    failed = 0
    for name, client in clients.items():
        try:
            for call in client(at):
                print(f"{server}{name}: {call}", flush=True)
        except Exception as error:  # whatever a client raises: the next one is asked too
            failed += 1
            print(f"{server}{name}: FAILED after the above: {type(error).__name__}: {error}", flush=True)
    return failed


def main() -> int:
    more, missing = elsewhere()
    with server() as at:
        failed = tried(CLIENTS | more, at)
    print(*missing, sep="\n", end="\n" * bool(missing))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
