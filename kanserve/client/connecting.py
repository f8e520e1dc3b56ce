"""Connections to a server: addresses, the connection pool, TLS, tokens, and the available calls. Each of the `channels`
connections stays with one worker process of the server; calls use them in turn."""

import ipaddress
import itertools
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from kanserve.client import retrying
from kanserve.errors import InputError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.v1 import formula_pb2

Pem = bytes | str | os.PathLike[str]  # a certificate or a key: PEM itself, or the path of a file
Pairs = Sequence[tuple[str, str | bytes]]
Metadata = Pairs | Callable[[], Pairs]  # metadata of requests: constant, or a function called for each request
Calls = Mapping[str, Any]  # the calls of one channel by name; grpc has a type for each kind only in its stubs

_MOST_BYTES = 2**27
_KEEPALIVE = 330_000  # milliseconds: servers may disconnect clients that ping more often than every five minutes
_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", _MOST_BYTES),
    ("grpc.max_send_message_length", _MOST_BYTES),
    # A killed worker is replaced within a second; grpc's default back-off starts at one second and grows.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", _KEEPALIVE),
)


@dataclass(frozen=True)
class Target:
    """A server's address, and the credentials for it."""

    address: str
    channels: int
    options: tuple[tuple[str, Any], ...]
    credentials: grpc.ChannelCredentials | None
    token: str | Callable[[], str] | None

    def open(self) -> list[grpc.Channel]:
        """Create the channels, which connect at first use."""
        if self.credentials is None:
            return [grpc.insecure_channel(self.address, self.options) for _ in range(self.channels)]
        return [grpc.secure_channel(self.address, self.credentials, self.options) for _ in range(self.channels)]

    def open_in_loop(self) -> list[grpc.aio.Channel]:
        """Like `open`, for asyncio; the channels belong to the running event loop."""
        if self.credentials is None:
            return [grpc.aio.insecure_channel(self.address, self.options) for _ in range(self.channels)]
        return [grpc.aio.secure_channel(self.address, self.credentials, self.options) for _ in range(self.channels)]

    def cause(self, error: Any) -> Any:
        """The error to report for a call without a connection: `error`, or that of another address with the same name.
        For localhost gRPC mostly names ::1, where nothing listens, and not 127.0.0.1, where the server may require TLS.
        An address that does not answer takes three seconds."""
        if error.code() is not grpc.StatusCode.UNAVAILABLE or "Connection refused" not in (error.details() or ""):
            return error
        host, _, port = self.address.removeprefix("dns:").rpartition("/")[-1].rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except (OSError, ValueError):  # no name of a host
            return error
        options = (*self.options, ("grpc.use_local_subchannel_pool", 1))  # no pause since earlier attempts
        if self.credentials is not None:
            options = (("grpc.ssl_target_name_override", host), *options)
        for family, *_, place in found:
            if place[0] == host.strip("[]"):  # no name: `error` is that of this address
                continue
            name = f"ipv6:[{place[0]}]" if family == socket.AF_INET6 else f"ipv4:{place[0]}"
            (channel,) = replace(self, address=f"{name}:{port}", channels=1, options=options).open()
            with channel:
                try:
                    calls(channel)["ServerLive"](pb.ServerLiveRequest(), timeout=3.0)
                except grpc.RpcError as other:
                    if retrying.hint(other):
                        return other
        return error


def target(
    address: str,
    *,
    channels: int = 1,
    tls: bool | Pem = False,
    certificate: Pem | None = None,
    key: Pem | None = None,
    server_name: str = "",
    token: str | Callable[[], str] | None = None,
) -> Target:
    """A server's address with options. Raises InputError if they contradict each other. A token is secret: without TLS
    it is only sent to this machine."""
    if channels < 1:
        raise InputError(f"A client has 1 or more channels, got {channels}.")
    if (certificate is None) != (key is None):
        raise InputError("A client certificate needs its key: give both, or neither.")
    if tls is False and certificate is not None:
        raise InputError("A client certificate needs TLS: give tls too, True or the server's CA certificate.")
    if tls is False and token is not None and not is_local(address):
        raise InputError(
            f"A token must not be sent to {address} unencrypted: give tls, True or the server's CA certificate."
        )
    options = _OPTIONS
    if channels > 1:
        options = (*options, ("grpc.use_local_subchannel_pool", 1))  # otherwise the channels share a connection
    if server_name:
        options = (*options, ("grpc.ssl_target_name_override", server_name))
    if isinstance(token, str):
        _check_token(token)
    credentials = None
    if tls is not False:
        roots = None if tls is True else _pem(tls, "The CA certificate", "CERTIFICATE")
        own = None if key is None else _pem(key, "The key", "PRIVATE KEY")
        chain = None if certificate is None else _pem(certificate, "The certificate", "CERTIFICATE")
        credentials = grpc.ssl_channel_credentials(roots, own, chain)
    return Target(address, channels, options, credentials, token)


def is_local(address: str) -> bool:
    """Whether an address is a Unix socket or this machine's loopback."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    plain = address.split("///")[-1] if address.startswith("dns:///") else address
    plain = plain.removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:")
    host = plain[1 : plain.find("]")] if plain.startswith("[") else plain.rpartition(":")[0] or plain
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _pem(given: Pem, what: str, kind: str) -> bytes:
    """Read a PEM file, or take its contents. Raises InputError without such a block: gRPC's error names no file."""
    if isinstance(given, bytes) or (isinstance(given, str) and given.lstrip().startswith("-----BEGIN ")):
        pem = given if isinstance(given, bytes) else given.encode()
    else:
        what = f"{what} {os.fspath(given)}"
        try:
            pem = Path(given).read_bytes()
        except OSError as error:
            raise InputError(f"{what} cannot be read: {error.strerror}.") from None
    if not re.search(rf"-----BEGIN [A-Z0-9 ]*{kind}-----".encode(), pem):
        raise InputError(f"{what} is not PEM: it must have a line '-----BEGIN {kind}-----'.")
    return pem


def _check_token(token: str) -> str:
    """Return the token. Raises InputError if HTTP/2 cannot carry it, since grpc's error would not say what is wrong."""
    if not (_TEXT.fullmatch(token) and token.strip()):
        raise InputError("A token must be printable ASCII on one line, and not empty.")
    return token


@dataclass(frozen=True)
class _Method:
    path: str
    kind: str
    request: Callable[[Any], bytes]
    response: Callable[[bytes], Any]


def _methods() -> Iterator[tuple[str, _Method]]:
    for method in wire.METHODS.values():
        yield (
            method.name,
            _Method(method.path, method.kind, method.request.SerializeToString, method.response.FromString),
        )
    for descriptor in formula_pb2.DESCRIPTOR.services_by_name["FormulaService"].methods:
        kind = "unary_stream" if descriptor.server_streaming else "unary_unary"
        request, response = GetMessageClass(descriptor.input_type), GetMessageClass(descriptor.output_type)
        path = f"/{wire.FORMULA_SERVICE_NAME}/{descriptor.name}"
        yield descriptor.name, _Method(path, kind, request.SerializeToString, response.FromString)


_PREDICTING = "ModelInfer"  # its requests are written as bytes (`predicting`)
METHODS: Mapping[str, _Method] = MappingProxyType(dict(_methods()))


def calls(channel: grpc.Channel | grpc.aio.Channel) -> Calls:
    return {
        name: getattr(channel, method.kind)(
            method.path,
            request_serializer=None if name == _PREDICTING else method.request,
            response_deserializer=method.response,
        )
        for name, method in METHODS.items()
    }


class Names:
    """Generates request ids (a prefix per client and a number), which the server logs too, and the metadata. Raises
    InputError for invalid metadata."""

    def __init__(self, token: str | Callable[[], str] | None, metadata: Metadata = ()) -> None:
        self._token = token
        self._metadata = metadata if callable(metadata) else _check(metadata)
        self._beginning = os.urandom(6).hex()
        self._numbers = itertools.count(1)

    def next(self) -> tuple[str, tuple[tuple[str, str | bytes], ...]]:
        """The id of the next request, and its metadata."""
        more = _check(self._metadata()) if callable(self._metadata) else self._metadata
        name = next((str(value) for key, value in more if key == _NAME), "")
        if not name:
            name = f"{self._beginning}-{next(self._numbers)}"
            more = ((_NAME, name), *more)
        if self._token is None:
            return name, more
        token = self._token if isinstance(self._token, str) else _check_token(self._token())
        return name, (*more, (_AUTHORIZATION, f"Bearer {token}"))


_NAME, _AUTHORIZATION = "x-request-id", "authorization"
_KEY, _TEXT = re.compile(r"[0-9a-z_.-]+"), re.compile(r"[ -~]*")


def _check(metadata: Pairs) -> tuple[tuple[str, str | bytes], ...]:
    """Check that HTTP/2 can carry the metadata; grpc's own error would not say what is wrong."""
    for key, value in metadata:
        if not _KEY.fullmatch(key) or key.startswith("grpc-"):
            raise InputError(f"A key of metadata has lower-case letters, digits, '-', '_' and '.'; got {key!r:.80}.")
        if key == _AUTHORIZATION:
            raise InputError("Give the authorization as token, which is only sent over TLS.")
        if isinstance(value, str) == key.endswith("-bin") or (isinstance(value, str) and not _TEXT.fullmatch(value)):
            raise InputError(f"The metadata {key!r:.80} must be printable ASCII, or bytes where it ends in -bin.")
    return tuple(metadata)
