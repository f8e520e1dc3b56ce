"""How a client reaches a server: pools, TLS, certificates, tokens, Unix sockets, and what is refused at once."""

import asyncio
import hashlib
import inspect
import os
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from kanserve import repository
from kanserve.artifact_compiler import compile
from kanserve.client import AsyncClient, Client
from kanserve.client.connecting import is_local, target
from kanserve.errors import AccessError, InputError, UnauthenticatedError, UnreachableError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.serve.server import Server, start
from kanserve.serve.settings import Grant, Settings
from tests.support.networks import kans
from tests.support.peers import scripted_server
from tests.support.servers import keys

X = [[0.5]]
NOBODY = "failed to connect to all addresses; last error: UNKNOWN: ipv6:%5B::1%5D:1: Connection refused"
TOKEN = "a-token-of-the-tests"


class Refused(grpc.RpcError):
    """As grpc raises it where nothing listens at the last address that was tried."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return NOBODY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    repository.publish(root, "fox", compile(kans.one_edge(), ("numpy_source",)))
    return root


@pytest.fixture
def plain(folder: Path) -> Settings:
    return Settings(repository=str(folder), port=0)


@pytest.fixture
def secured(plain: Settings, tmp_path: Path) -> Iterator[Server]:
    """By TLS for "models.example"; a token may predict, and the operator's certificate may do all."""
    (tmp_path / "ca.pem").write_bytes(keys.authority().certificate)
    certificate, key = keys.authority().pair("server", dns=("models.example",)).write(tmp_path, "server")
    settings = replace(
        plain,
        tls_certificate=certificate,
        tls_key=key,
        access=(Grant(("predict",), name="robot", token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest()),),
    )
    with start(settings) as server:
        yield server


def test_a_client_of_many_connections_makes_as_many_and_spreads_its_calls():
    peers: list[str] = []

    def live(request: bytes, context: grpc.ServicerContext) -> pb.ServerLiveResponse:
        peers.append(context.peer())
        return pb.ServerLiveResponse(live=True)

    with scripted_server.serving({"ServerLive": live}) as address:
        with Client(address, channels=3) as client:
            assert all(client.live() for _ in range(12))
        assert len(set(peers)) == 3 and {peers.count(peer) for peer in set(peers)} == {4}
        peers.clear()
        with Client(address) as client, ThreadPoolExecutor(4) as threads:
            assert all(threads.map(lambda _: client.live(), range(12)))
        assert len(set(peers)) == 1

        async def ask() -> None:
            async with AsyncClient(address, channels=3) as client:
                await asyncio.gather(*(client.live() for _ in range(12)))

        peers.clear()
        asyncio.run(ask())
        assert len(set(peers)) == 3


def test_every_request_of_a_client_has_a_name_of_its_own():
    names: list[Any] = []

    def live(request: bytes, context: grpc.ServicerContext) -> pb.ServerLiveResponse:
        names.append(dict(context.invocation_metadata())["x-request-id"])
        return pb.ServerLiveResponse(live=True)

    with scripted_server.serving({"ServerLive": live}) as address:
        for _ in range(2):
            with Client(address) as client:
                client.live(), client.live()
    assert len(set(names)) == 4


def test_what_a_caller_wants_to_go_along_with_its_requests_does():
    heard: list[dict[str, Any]] = []

    def live(request: bytes, context: grpc.ServicerContext) -> pb.ServerLiveResponse:
        heard.append(dict(context.invocation_metadata() or ()))
        return pb.ServerLiveResponse(live=True)

    async def ask(address: str) -> None:
        async with AsyncClient(address, token="t", metadata=[("traceparent", "00-b"), ("tag-bin", b"\0")]) as client:
            assert await client.live()

    with scripted_server.serving({"ServerLive": live}) as address:
        numbers = iter(range(9))
        with Client(address, metadata=lambda: [("traceparent", f"00-{next(numbers)}")]) as client:
            assert client.live() and client.live()
        with Client(address, metadata=[("x-request-id", "mine")]) as client:
            assert client.live()
        asyncio.run(ask(address))
    assert [metadata.get("traceparent") for metadata in heard] == ["00-0", "00-1", None, "00-b"]
    assert heard[0]["x-request-id"] != heard[1]["x-request-id"] and heard[2]["x-request-id"] == "mine"
    assert heard[3]["authorization"] == "Bearer t" and heard[3]["tag-bin"] == b"\0"


@pytest.mark.parametrize(
    "pair", [("Upper", "a"), ("", "a"), ("grpc-timeout", "1S"), ("authorization", "a"), ("a", "\n"), ("a", b"a")]
)
def test_metadata_that_cannot_travel_is_refused(pair):
    with pytest.raises(InputError):
        Client("localhost:1", metadata=[pair])
    with Client("localhost:1", metadata=lambda: [pair]) as client, pytest.raises(InputError):
        client.live()


def test_a_client_without_tls_is_told_of_it(secured):
    client = Client(secured.address, retries=0)
    with client, pytest.raises(UnreachableError, match=r"Socket closed\. A server with TLS .*: give tls="):
        client.predict("fox", X)


def test_a_client_is_told_of_a_server_without_tls_and_of_the_port_for_http(plain):
    with start(replace(plain, http_port=0)) as server:
        authority = keys.authority().certificate
        with (
            Client(server.address, tls=authority, retries=0) as client,
            pytest.raises(UnreachableError, match="has no TLS: leave out tls="),
        ):
            client.predict("fox", X)
        with (
            Client(server.http_address, retries=0) as client,
            pytest.raises(UnreachableError, match="give gRPC's"),
        ):
            client.predict("fox", X)


@pytest.mark.parametrize("addresses", [1, 2])  # gRPC asks ::1 for localhost even if the machine has only 127.0.0.1
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_name_of_two_addresses_is_told_of_the_server_at_either(plain, monkeypatch, asynchronous, addresses):
    found = socket.getaddrinfo

    def both(host, port, *arguments, **options):
        """As resolvers have localhost where the machine has IPv6."""
        if host != "localhost":
            return found(host, port, *arguments, **options)
        there = [(socket.AF_INET6, 1, 6, "", ("::1", port, 0, 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]
        return there[-addresses:]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    nobody = Refused()
    with start(replace(plain, http_port=0)) as server:
        port, address = server.http_address.rpartition(":")[2], server.address.replace("127.0.0.1", "localhost")
        assert "http1.x server" in target(f"localhost:{port}").cause(nobody).details()
        assert "WRONG_VERSION" in target(address, tls=True).cause(nobody).details()
        assert target(address).cause(nobody) is nobody, "the server there answers"
        assert target(f"127.0.0.1:{port}").cause(nobody) is nobody

        async def ask() -> None:
            async with AsyncClient(f"localhost:{port}", retries=1) as client:
                await client.metadata("fox")

        with pytest.raises(UnreachableError, match="give gRPC's"):
            if asynchronous:
                asyncio.run(ask())
            else:
                Client(f"localhost:{port}", retries=1).metadata("fox")


@pytest.mark.parametrize("kind", ["bytes", "text", "path"])
def test_a_server_is_known_by_its_authority_and_its_name(secured, tmp_path, kind):
    given = keys.authority().certificate
    authority = {"bytes": given, "text": given.decode(), "path": tmp_path / "ca.pem"}[kind]
    with Client(secured.address, tls=authority, token=TOKEN) as client:
        assert client.predict("fox", X).shape == (1, 1)
    with Client(secured.address, tls=authority, token=TOKEN, server_name="models.example") as client:
        assert client.predict("fox", X).shape == (1, 1)
    one, other = keys.authority().pair("one"), keys.authority().pair("other")
    for wrong, says in (
        ({"tls": keys.authority("another").certificate}, "authority of its certificate is not trusted"),
        ({"tls": authority, "server_name": "other.example"}, "another name"),
        ({"tls": authority, "certificate": one.certificate, "key": other.key}, "belong together"),
        ({}, "closes connections without it"),
    ):
        with (
            Client(secured.address, retries=0, timeout=60.0, **wrong) as client,
            pytest.raises(UnreachableError, match=says),
        ):
            client.predict("fox", X)


def test_a_token_says_who_asks_and_may_change(secured):
    authority = keys.authority().certificate
    with Client(secured.address, tls=authority) as nobody, pytest.raises(UnauthenticatedError):
        nobody.predict("fox", X)
    with Client(secured.address, tls=authority, token="another") as stranger, pytest.raises(UnauthenticatedError):
        stranger.predict("fox", X)
    with Client(secured.address, tls=authority, token=TOKEN) as robot, pytest.raises(AccessError):
        robot.unload("fox")
    tokens = iter(["another", TOKEN])
    with Client(secured.address, tls=authority, token=lambda: next(tokens)) as changing:
        with pytest.raises(UnauthenticatedError):
            changing.predict("fox", X)
        assert changing.predict("fox", X).shape == (1, 1)
    with Client(secured.address, tls=authority, token=lambda: "") as silent, pytest.raises(InputError, match="empty"):
        silent.predict("fox", X)

    async def ask() -> tuple[int, ...]:
        async with AsyncClient(secured.address, tls=authority, token=TOKEN) as client:
            return tuple((await client.predict("fox", X)).shape)

    assert asyncio.run(ask()) == (1, 1)


def test_a_certificate_says_who_asks(plain, tmp_path):
    (tmp_path / "ca.pem").write_bytes(keys.authority().certificate)
    certificate, key = keys.authority().pair("server").write(tmp_path, "server")
    mine = keys.authority().pair("operator")
    files = mine.write(tmp_path, "operator")
    settings = replace(
        plain,
        tls_certificate=certificate,
        tls_key=key,
        tls_client_ca=str(tmp_path / "ca.pem"),
        access=(Grant(("predict", "manage"), name="operator", certificate="operator"),),
    )
    with start(settings) as server:
        authority = keys.authority().certificate
        for given in ((mine.certificate, mine.key), files):
            with Client(server.address, tls=authority, certificate=given[0], key=given[1]) as client:
                assert client.predict("fox", X).shape == (1, 1)
                client.load("fox")
        with Client(server.address, tls=authority, retries=0) as nobody, pytest.raises(UnreachableError):
            nobody.predict("fox", X)


def test_a_token_does_not_leave_this_machine_in_the_clear(plain):
    for address in ("models.example:8001", "10.0.0.1:8001", "dns:///models.example:8001", "[2001:db8::1]:8001"):
        with pytest.raises(InputError, match=r"must not be sent to .* unencrypted: give tls"):
            Client(address, token=TOKEN)
        with pytest.raises(InputError, match="unencrypted"):
            AsyncClient(address, token=TOKEN)
    grant = Grant(("predict",), name="robot", token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest())
    with start(replace(plain, access=(grant,))) as server, Client(server.address, token=TOKEN) as client:
        assert client.predict("fox", X).shape == (1, 1)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("localhost:8001", True),
        ("127.0.0.1:8001", True),
        ("127.8.8.8:1", True),
        ("[::1]:8001", True),
        ("ipv4:127.0.0.1:8001", True),
        ("ipv6:[::1]:8001", True),
        ("dns:localhost:8001", True),
        ("dns:///localhost:8001", True),
        ("unix:/run/kanserve.sock", True),
        ("unix-abstract:kanserve", True),
        ("localhost.example:8001", False),
        ("0.0.0.0:8001", False),
        ("::1", False),  # grpc takes it for the host ":" and a port
        ("dns://8.8.8.8/localhost:8001", False),  # another's word for where localhost is
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False),
        ("", False),
    ],
)
def test_an_address_of_this_machine_is_told_from_others(address, local):
    assert is_local(address) is local


def test_a_unix_socket_is_an_address(plain, tmp_path):
    path = tmp_path / "kanserve.sock"
    with start(replace(plain, unix_socket=str(path))) as server, Client(f"unix:{path}", token=TOKEN) as client:
        assert server.address == f"unix:{path}" and stat.S_ISSOCK(os.stat(path).st_mode)
        assert client.predict("fox", X).shape == (1, 1)
        client.live()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"channels": 0}, "1 or more channels"),
        ({"tls": True, "certificate": b"x"}, "give both, or neither"),
        ({"tls": True, "key": b"x"}, "give both, or neither"),
        ({"certificate": b"x", "key": b"x"}, "needs TLS"),
        ({"tls": "/nowhere/ca.pem"}, "/nowhere/ca.pem cannot be read"),
        ({"tls": b"junk"}, "The CA certificate is not PEM"),
        ({"tls": keys.__file__}, "keys.py is not PEM: it must have a line '-----BEGIN CERTIFICATE-----'"),
        ({"tls": True, "certificate": b"x", "key": keys.authority().certificate}, "The key is not PEM"),
        ({"token": ""}, "not empty"),
        ({"token": "two\nlines"}, "on one line"),
        ({"token": "schlüssel"}, "printable ASCII"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_does_not_fit_together_is_refused_when_a_client_is_made(kind, arguments, says):
    with pytest.raises(InputError, match=says):
        kind("localhost:8001", **arguments)


def test_a_closed_client_says_so(plain):
    async def ask(address: str) -> None:
        client = AsyncClient(address)
        assert await client.live()
        await client.close()
        await client.live()

    with start(plain) as server:
        client = Client(server.address)
        client.close()
        with pytest.raises(InputError, match="closed"):
            client.live()
        with pytest.raises(InputError, match="closed"):
            asyncio.run(ask(server.address))


def test_both_clients_have_the_same_calls_with_the_same_arguments():
    def calls(kind: type) -> dict[str, inspect.Signature]:
        return {
            name: inspect.signature(member).replace(return_annotation=None)
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }

    assert calls(Client) == calls(AsyncClient)
    asynchronous = {name for name in calls(AsyncClient) if inspect.iscoroutinefunction(getattr(AsyncClient, name))}
    assert asynchronous == set(calls(Client)) - {"__init__", "watch"}
    assert inspect.isasyncgenfunction(AsyncClient.watch)
