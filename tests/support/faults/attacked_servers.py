"""Servers that are attacked or examined, each a process: `kanserve serve` and an edge server, with TLS or without."""

import re
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._serving_peers import UNBUILT, build_edge_server, why
from kanserve import repository
from kanserve.serve.settings import Settings
from tests.support.servers import keys, server_process, serving
from tests.support.servers.honest_caller import Way

MODEL = "iris"


@dataclass(frozen=True)
class Port:
    """Where a server listens, and how it is asked there."""

    address: str
    way: Way = "grpc"
    ca: str = ""


@dataclass(frozen=True)
class Server:
    process: "subprocess.Popen[str]"
    ports: dict[str, Port]


class Servers:
    """Starts what is attacked, anew for each attack."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.program = self._compiled()
        self._edge = self._built()
        self.models = folder / "models"
        repository.publish(self.models, MODEL, serving.artifact(MODEL))

    def _compiled(self) -> str:
        """The client that demands keys; "" where it does not compile."""
        program, source = self._folder / "key_updates", Path(__file__).with_name("key_updates.c")
        done = subprocess.run(["cc", "-O2", source, "-o", program, "-lssl", "-lcrypto"], capture_output=True)
        return "" if done.returncode else str(program)

    def _built(self) -> Path | None:
        try:
            return build_edge_server(serving.kan(MODEL), MODEL, self._folder / "edge", static=False, tls=True)
        except UNBUILT as error:
            print(f"The edge server does not build here: {why(error)}", flush=True)
            return None

    def certificate(self) -> dict[str, str]:
        """New files of one, as settings."""
        folder = self._folder / f"tls-{time.monotonic_ns()}"
        folder.mkdir()
        certificate, key = keys.authority().pair("localhost").write(folder, "server")
        (folder / "ca.crt").write_bytes(keys.authority().certificate)
        return {"tls_certificate": certificate, "tls_key": key}

    def lacks(self, port: str, attack: str = "") -> str:
        """What is missing for an attack here; "" for nothing."""
        if attack == "key_updates" and not self.program:
            return "libssl-dev"
        return "an edge server" if port.startswith("edge") and self._edge is None else ""

    @contextmanager
    def started(
        self, port: str, tls: dict[str, str] | None = None, descriptors: int = 0, **settings: Any
    ) -> Iterator[Server]:
        """The one that has this port, with so many descriptors where that is not 0."""
        tls = tls or {}
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        if descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, before[1]))
        try:
            context = self._edge_started(tls) if port.startswith("edge") else self._python_started(tls, settings)
            server = context.__enter__()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        try:
            yield server
        finally:
            context.__exit__(None, None, None)

    @contextmanager
    def _python_started(self, tls: dict[str, str], settings: dict[str, Any]) -> Iterator[Server]:
        options: dict[str, Any] = {"port": 0, "http_port": 0, **tls, **settings}
        wanted = Settings(str(self.models), **options)
        with server_process.started(wanted) as running:
            said = server_process.said(running, "serving")
            threading.Thread(target=server_process.errors_of(running).read, daemon=True).start()
            ca, end = _authority(tls), ", TLS" if tls else ""
            yield Server(
                running,
                {
                    f"gRPC{end}": Port(said.split()[-1], "grpc", ca),
                    f"REST{end}": Port(re.findall(r"REST at https?://([\d.:]+)", said)[0], "rest", ca),
                },
            )

    @contextmanager
    def _edge_started(self, tls: dict[str, str]) -> Iterator[Server]:
        options = [word for name, value in tls.items() for word in (f"--{name.replace('_', '-')}", value)]
        command = [str(self._edge), "--port", "0", "--http-port", "0", *options]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
            try:
                said = server_process.said(running, "serving")
                yield Server(
                    running,
                    {
                        "edge, TLS" if tls else "edge": Port(
                            said.rsplit(" on ", 1)[1].strip(), "grpc", _authority(tls)
                        ),
                        "edge, HTTP": Port(re.findall(r"http://([\d.:]+)", said)[0], "health"),
                    },
                )
            finally:
                running.kill()


def _authority(tls: dict[str, str]) -> str:
    return str(Path(tls["tls_certificate"]).with_name("ca.crt")) if tls else ""
