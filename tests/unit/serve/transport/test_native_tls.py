"""TLS of the native transport: what it agrees on, whom it asks for a certificate, and how its own rotates."""

import ast
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

from kanserve.native import build
from kanserve.serve.transport.native_library import CLOSED_FLOODING
from tests.support import programs
from tests.support.paths import ROOT
from tests.support.peers.http2_peer import Peer
from tests.support.servers import keys
from tests.support.servers.loop_server import ECHO, LoopServer, needs_native
from tests.support.servers.server_process import ENVIRONMENT, until

CA = keys.authority()
FAULTS = ROOT / "tests" / "support" / "faults"


def context(alpn: tuple[str, ...] = ("h2",), client: tuple[str, str] | None = None, *, authority=CA) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=authority.certificate.decode())
    if alpn:
        made.set_alpn_protocols(list(alpn))
    if client is not None:
        made.load_cert_chain(*client)
    return made


@pytest.fixture
def files(tmp_path) -> tuple[str, str]:
    return CA.pair("localhost").write(tmp_path, "server")


def refused(server: LoopServer, tls: ssl.SSLContext) -> bool:
    """Whether no call is answered: under TLS 1.3 a client learns only then that its certificate is refused."""
    try:
        with Peer(server.address, tls=tls) as peer:
            peer.round_trip()
    except (OSError, AssertionError):
        return True
    return False


@pytest.mark.parametrize("alpn", [("h2",), ("http/1.1", "h2"), ("spdy/3", "h2", "http/1.1")])
def test_a_client_that_offers_h2_is_served(files, alpn):
    with LoopServer(tls=(*files, None)) as server, Peer(server.address, tls=context(alpn)) as peer:
        assert peer.ask(ECHO, bytes(50_000)).messages == [bytes(50_000)]


@pytest.mark.parametrize("alpn", [(), ("http/1.1",), ("h2c",), ("h", "h22")])
def test_a_client_that_does_not_offer_h2_is_not(files, alpn):
    with LoopServer(tls=(*files, None)) as server:
        assert refused(server, context(alpn))
        server.wait_idle()


def test_old_versions_of_tls_are_refused(files):
    old = context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with LoopServer(tls=(*files, None)) as server:
        assert not refused(server, old)
        for text in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(100)):
            host, port = server.address.split(":")
            with socket.create_connection((host, int(port)), timeout=60) as plain:
                plain.sendall(text)
                while plain.recv(1000):  # an alert
                    pass
        server.wait_idle()


def test_a_client_must_show_a_certificate_of_the_authorities_and_is_known_by_it(files, tmp_path):
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(CA.certificate)
    known = CA.pair("someone", dns=("a.example",), uris=("spiffe://x/y",)).write(tmp_path, "known")
    unknown = keys.authority("another").pair("someone").write(tmp_path, "unknown")
    expired = CA.pair("someone", expired=True).write(tmp_path, "expired")

    def names(message, context):
        context.answer(repr(context.identity).encode())

    with LoopServer(names, tls=(*files, str(authorities))) as server:
        with Peer(server.address, tls=context(client=known)) as peer:
            found = ast.literal_eval(peer.ask(ECHO).messages[0].decode())
        assert found["x509_common_name"] == [b"someone"]
        assert found["peer_uri"] == [b"spiffe://x/y"]
        assert b"a.example" in found["peer_dns"]
        for client in (None, unknown, expired):
            assert refused(server, context(client=client)), client
        server.wait_idle()


def serial(address: str) -> str:
    """The number of the certificate that the server shows."""
    host, port = address.split(":")
    with context().wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname="localhost") as made:
        found = made.getpeercert()
        assert found is not None
        return str(found["serialNumber"])


def await_another(address: str, before: str) -> None:
    """Until the server shows another certificate: it looks for one each second."""
    until(lambda: serial(address) != before, 10)


def replace(folder: Path, pair: keys.Pair) -> None:
    """As certificate managers do it: each file at once, one after the other."""
    pair.write(folder, "next")
    for end in ("key", "crt"):
        os.replace(folder / f"next.{end}", folder / f"server.{end}")


@pytest.mark.slow
@pytest.mark.extended
def test_certificates_rotate_without_a_lost_call_and_a_bad_one_keeps_the_old(files, tmp_path):
    failed: list[object] = []
    over = threading.Event()

    def ask(server: LoopServer) -> None:
        credentials = grpc.ssl_channel_credentials(CA.certificate)
        while not over.is_set():
            with grpc.secure_channel(server.address, credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                call = channel.unary_unary(ECHO, bytes, bytes)
                try:
                    for _ in range(5):
                        assert call(b"hello", timeout=60, wait_for_ready=True) == b"hello"
                except Exception as error:
                    failed.append(error)
            over.wait(0.01)  # the other tests want the processor, too

    with LoopServer(tls=(*files, None)) as server:
        callers = [threading.Thread(target=ask, args=(server,)) for _ in range(2)]
        for caller in callers:
            caller.start()
        for _ in range(4):
            last = serial(server.address)
            replace(tmp_path, CA.pair("localhost"))
            await_another(server.address, last)
        last = serial(server.address)
        (tmp_path / "server.crt").write_text("no certificate")
        time.sleep(1.5)
        assert serial(server.address) == last
        os.unlink(tmp_path / "server.crt")
        time.sleep(1.5)
        assert serial(server.address) == last
        replace(tmp_path, CA.pair("localhost"))
        await_another(server.address, last)
        over.set()
        for caller in callers:
            caller.join()
    assert failed == []


def test_a_client_that_demands_new_keys_for_ever_is_cut_off_and_others_are_answered(files, tmp_path):
    needs_native()
    compiler = programs.want("gcc")
    if not build.server_headers():
        programs.skip("libssl-dev")
    source, program = FAULTS / "key_updates.c", tmp_path / "key_updates"
    subprocess.run([compiler, source, "-o", program, "-lssl", "-lcrypto"], check=True)
    with LoopServer(tls=(*files, None)) as server, Peer(server.address, tls=context()) as neighbour:
        port = server.address.rpartition(":")[2]
        done = subprocess.run([program, port, "200000"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and int(done.stdout) < 100_000
        until(lambda: server.library.closed(server.server, CLOSED_FLOODING) == 1)
        neighbour.round_trip()
        until(lambda: server.connections == 1)
        for _ in range(3):
            few = subprocess.run([program, port, "20"], capture_output=True, text=True, timeout=60)
            assert few.stdout == "20\n", "few are no attack"


HUNG = """
import sys

from tests.support.servers.loop_server import LoopServer

with LoopServer(tls=(*sys.argv[1:], None)) as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.extended
def test_a_key_file_on_a_disk_that_hangs_keeps_nobody_waiting(files, tmp_path):
    needs_native()
    library, hung = tmp_path / "hung_files.so", tmp_path / "hung"
    compiled = [programs.want("gcc"), "-shared", "-fPIC", FAULTS / "hung_files.c", "-o", library]
    subprocess.run(compiled, check=True)
    environment = ENVIRONMENT | {"LD_PRELOAD": str(library), "HUNG": str(hung)}
    command = [sys.executable, "-c", HUNG, *files]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as server:
        assert server.stdin and server.stdout
        address = server.stdout.readline().strip()
        first = serial(address)
        hung.touch()
        replace(tmp_path, CA.pair("localhost"))
        for _ in range(4):
            began = time.monotonic()
            assert serial(address) == first
            assert time.monotonic() - began < 0.5
            time.sleep(0.5)
        hung.unlink()
        await_another(address, first)
        hung.touch()
        time.sleep(1.5)
        server.stdin.close()
        assert server.wait(30) == 0, "nor does the end wait for the disk"


def test_a_key_file_that_becomes_a_pipe_keeps_nobody_waiting(files):
    with LoopServer(tls=(*files, None)) as server:
        with Peer(server.address, tls=context()) as peer:
            peer.round_trip()
        os.unlink(files[1])
        os.mkfifo(files[1])
        for _ in range(3):
            with Peer(server.address, tls=context()) as peer:
                peer.round_trip()
            time.sleep(0.5)
        os.unlink(files[1])
        first = serial(server.address)
        replace(Path(files[1]).parent, CA.pair("localhost"))
        await_another(server.address, first)  # whoever reads the files was not kept waiting either
