"""The server under ASan and UBSan, then under TSan, for SANITIZED seconds each (600), half of them with TLS.

    SANITIZED=60 python -m tests.fuzz.run_sanitized [address] [thread]

Clients ask over gRPC and REST, some of them through a proxy that delays and cuts at random bytes, while versions are
published and removed, and certificates replaced. One line of figures for each half; a report of a sanitizer, a wrong
answer, or a client that is refused though nobody cuts its connection, fails the run.
"""

import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kanserve import repository
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.serve import settings
from kanserve.serve.settings import Settings
from tests.support.faults import server_sanitized
from tests.support.faults.chaos import Chaos
from tests.support.paths import ROOT
from tests.support.peers.http2_peer import Peer
from tests.support.servers import keys, reload_checks, rest_port, server_process
from tests.support.servers.server_load import INFER

RUNS = {
    "address": (server_sanitized.SANITIZED, "asan", {"ASAN_OPTIONS": "detect_leaks=0"}),
    "thread": (server_sanitized.RACES, "tsan", {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1"}),
}
REPORT = re.compile(r"WARNING: ThreadSanitizer|ERROR: AddressSanitizer|runtime error:|AddressSanitizer:DEADLYSIGNAL")
SERVE = """
import sys
from pathlib import Path

from kanserve import native

native.FOLDER = Path(sys.argv[1])
from kanserve.serve.__main__ import main

sys.exit(main(sys.argv[2:]))
"""
KEPT_VERSIONS = 3
PATH = "/v2/models/model/infer"


@dataclass
class Figures:
    calls: int = 0  # that were answered
    broken: int = 0  # that the proxy has cut
    wrong: list[str] = field(default_factory=list)
    reloads: int = 0
    rotations: int = 0


def check(number: int, got: "np.ndarray[tuple[int], np.dtype[np.float64]]", figures: Figures) -> None:
    if not np.allclose(got.reshape(-1, 1), reload_checks.answer(number % reload_checks.KINDS), rtol=1e-9):
        figures.wrong.append(f"version {number} answered {got[:3]}..")


def over_grpc(address: str, tls: ssl.SSLContext | None, figures: Figures) -> None:
    """Some calls on one connection: one after another, then some whose answers nobody awaits."""
    x = reload_checks.X
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=x.shape)
    request = pb.ModelInferRequest(model_name="model", inputs=[tensor], raw_input_contents=[x.tobytes()])
    with Peer(address, tls=tls) as peer:
        peer.socket.settimeout(20)
        for _ in range(10):
            answer = peer.ask(INFER, request.SerializeToString())
            if answer.status != 0:
                raise OSError(answer.text)
            response = pb.ModelInferResponse.FromString(answer.messages[0])
            check(int(response.model_version), np.frombuffer(response.raw_output_contents[0]), figures)
            figures.calls += 1
        peer.message(peer.call(INFER), request.SerializeToString()[:20], end=False)
        peer.message(peer.call(INFER), request.SerializeToString())


def over_rest(address: str, tls: ssl.SSLContext | None, figures: Figures) -> None:
    host, _, port = address.rpartition(":")
    kind = http.client.HTTPConnection
    connection = kind(host, int(port), timeout=20)
    if tls is not None:
        connection = http.client.HTTPSConnection("localhost", int(port), timeout=20, context=tls)
    try:
        for body in (rest_port.infer(reload_checks.X), None) * 4:
            text = None if body is None else json.dumps(body)
            connection.request("POST" if text else "GET", PATH if text else "/metrics", text)
            response = connection.getresponse()
            answer = rest_port.Answer(response.status, response.headers, response.read())
            if answer.status != 200:
                raise OSError(answer.body)
            if text:
                check(int(answer.json["model_version"]), np.array(rest_port.output(answer)), figures)
            figures.calls += 1
    finally:
        connection.close()


def client(
    ask: Callable[[str, ssl.SSLContext | None, Figures], None],
    address: str,
    tls: ssl.SSLContext | None,
    cut: bool,
    figures: Figures,
    over: threading.Event,
) -> None:
    while not over.is_set():
        try:
            ask(address, tls, figures)
        except Exception as error:
            figures.broken += cut
            if not cut:
                figures.wrong.append(f"{ask.__name__}: {error!r}")
        over.wait(0.01)


def reload(
    root: Path, folder: Path, authority: keys.Authority, process: int, figures: Figures, over: threading.Event
) -> None:
    """A new version each second; each third time a new certificate, half of it first."""
    while not over.wait(1.0):
        reload_checks.publish(root)
        for number in repository.versions(root, "model")[:-KEPT_VERSIONS]:
            shutil.rmtree(root / "model" / str(number))
        os.kill(process, signal.SIGHUP)
        figures.reloads += 1
        if figures.reloads % 3 == 0:
            authority.pair("localhost").write(folder, "next")
            for end in ("key", "crt"):
                os.replace(folder / f"next.{end}", folder / f"server.{end}")
            figures.rotations += 1


def serve(name: str, libraries: Path, seconds: float, secure: bool, folder: Path) -> bool:
    """Whether nothing was found."""
    _, library, options = RUNS[name]
    root, authority, figures, over = folder / "models", keys.Authority(), Figures(), threading.Event()
    reload_checks.publish(root)
    environment = server_process.ENVIRONMENT | options | {"LD_PRELOAD": server_sanitized.runtime(library)}
    wanted = Settings(repository=str(root), port=0, http_port=0, versions="latest", threads=4)
    tls = None
    if secure:
        certificate, key = authority.pair("localhost").write(folder, "server")
        wanted = replace(wanted, tls_certificate=certificate, tls_key=key)
        tls = ssl.create_default_context(cadata=authority.certificate.decode())
        tls.set_alpn_protocols(["h2"])
    # ThreadSanitizer's runtime does not start where memory is at more random addresses than it knows.
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    with ExitStack() as stack:
        said = stack.enter_context((folder / "said").open("w+"))
        file = stack.enter_context(tempfile.TemporaryFile())
        file.write(settings.dumps(wanted).encode())
        file.seek(0)
        command = [*fixed, sys.executable, "-c", SERVE, str(libraries), str(file.fileno())]
        server = stack.enter_context(
            subprocess.Popen(command, stderr=said, env=environment, cwd=ROOT, pass_fds=[file.fileno()])
        )
        stack.callback(server.kill)
        found = None
        for _ in range(1200):
            found = re.search(r"https?://(\S+?)/v2.*gRPC \(native\) on (\S+)", (folder / "said").read_text())
            if found or server.poll() is not None:
                break
            time.sleep(0.1)
        if not found:
            print(f"{name:8} the server does not start:\n{(folder / 'said').read_text()[-6000:]}", flush=True)
            return False
        rest, grpc = found[1], found[2]
        assert str(libraries / "libkanserve-server.so") in Path(f"/proc/{server.pid}/maps").read_text()
        proxies = [stack.enter_context(Chaos(address)) for address in (rest, grpc)]
        web = ssl.create_default_context(cadata=authority.certificate.decode()) if secure else None
        work = [(over_grpc, grpc, tls, False), (over_rest, rest, web, False)]
        work += 2 * [(over_grpc, proxies[1].address, tls, True), (over_rest, proxies[0].address, web, True)]
        threads = [threading.Thread(target=client, args=(*part, figures, over)) for part in work]
        threads.append(threading.Thread(target=reload, args=(root, folder, authority, server.pid, figures, over)))
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and server.poll() is None:
            time.sleep(0.1)
        over.set()
        for thread in threads:
            thread.join()
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(120)
        text = (folder / "said").read_text()
        reports = len(REPORT.findall(text))
        well = server.poll() == 0 and not reports and not figures.wrong
        passed = f"{figures.calls:,} calls, {figures.broken:,} connections broken"
        cuts, delays = (sum(getattr(proxy, what) for proxy in proxies) for what in ("cuts", "delays"))
        changed = f"{figures.reloads} reloads, {figures.rotations if secure else 0} certificates"
        ended = f"exit code {server.poll()}: {reports} reports, {len(figures.wrong)} wrong"
        title = f"{name}{', TLS' if secure else ''}"
        print(f"{title:12} {seconds:.0f} s: {passed}, {cuts:,} cuts, {delays:,} delays, {changed}, {ended}", flush=True)
        if not well:
            print(*figures.wrong[:5], text[-8000:], sep="\n", flush=True)
        return well


def main() -> int:
    if not shutil.which("gcc"):
        print("The sanitizers need gcc: nothing was run.")
        return 0
    seconds, well = float(os.environ.get("SANITIZED", "600")), True
    for name in sys.argv[1:] or RUNS:
        with tempfile.TemporaryDirectory() as temporary:
            libraries = server_sanitized.built(Path(temporary), RUNS[name][0])
            for secure in (False, True):
                folder = Path(temporary, "secure" if secure else "plain")
                folder.mkdir()
                well &= serve(name, libraries, seconds / 2, secure, folder)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
