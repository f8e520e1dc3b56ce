"""Other projects' clients, unmodified, against an edge server; each call that works is one line, and so is each size.

    make clients

The binaries are built as the README of the export says (Debian: gcc pkg-config libnghttp2-dev zlib1g-dev libssl-dev
libzstd-dev): one without TLS, which most clients are tried with, and one with it. An edge server has no reflection, no
REST, no streams of requests and no loading, so those calls are left out.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc

from benchmarks._serving_peers import UNBUILT, build_edge_server, why
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from tests.peers import clients
from tests.peers.clients import MODEL, Addresses
from tests.support.servers import keys, serving

CLIENTS: dict[str, clients.Calls] = {
    "tritonclient": clients.tritonclient_on_one_model,
    "tritonclient.aio": clients.tritonclient_aio_on_one_model,
    "perf_analyzer": lambda at: clients.perf_analyzed(at, MODEL, ["-b", "16"]),
    "grpc_health": clients.grpc_health,
    "prometheus_client": clients.prometheus,
    "http": clients.health_over_http,
    "kanserve.client": clients.kanserve_client,
}


@contextmanager
def edge_server(binary: Path, *options: str, tls: bool = False) -> Iterator[Addresses]:
    """The binary until the end, at which it must end well at SIGTERM."""
    command = [str(binary), "--port", "0", "--http-port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None  # asked for above
            line = process.stderr.readline()
            http = re.search(r"http://([\d.:]+)", line)
            assert http is not None, line
            yield Addresses(line.rsplit(" on ", 1)[1].strip(), http[1], tls, rest=False)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code == 0, code


def grpcio_over_tls(at: Addresses) -> Iterator[str]:
    credentials = grpc.ssl_channel_credentials(keys.authority().certificate)
    with grpc.secure_channel(at.grpc, credentials) as channel:
        assert wire.stub(channel).ModelReady(pb.ModelReadyRequest(name=MODEL), timeout=60).ready
    yield "ModelReady"


def built(folder: Path, name: str, tls: bool) -> Path | None:
    """The static binary, or one with the system's libraries where only that builds; a line for each says its size."""
    for static in (True, False):
        kind = f"{name}, {'static' if static else 'with shared libraries'}"
        try:
            binary = build_edge_server(serving.kan(MODEL), MODEL, folder / kind, static=static, tls=tls)
        except UNBUILT as error:
            print(f"{kind}: does not build here: {why(error)}", flush=True)
            continue
        print(f"{kind}: {binary.stat().st_size / 1e6:.2f} MB", flush=True)
        return binary
    return None


def tried(folder: Path, name: str, tls: bool) -> int:
    """How many clients fail."""
    binary = built(folder, name, tls)
    if binary is None:
        return 0
    more, _ = clients.elsewhere()
    more.pop("tritonclient.http", None)
    wanted, options = CLIENTS | more, list[str]()
    if tls:
        wanted = {"grpcio": grpcio_over_tls} | {key: client for key, client in more.items() if key == "h2load"}
        certificate, key = keys.authority().pair("server").write(folder, "server")
        options = ["--tls-certificate", certificate, "--tls-key", key]
    try:
        with edge_server(binary, *options, tls=tls) as at:
            return clients.tried(wanted, at, f"{name}, ")
    except AssertionError as error:
        print(f"{name}: FAILED to start or to end: {error}", flush=True)
        return 1


def main() -> int:
    with TemporaryDirectory() as folder:
        setups = {"edge server": False, "edge server with TLS": True}
        failed = sum(tried(Path(folder), name, tls) for name, tls in setups.items())
    _, missing = clients.elsewhere()
    print(*missing, sep="\n", end="\n" * bool(missing))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
