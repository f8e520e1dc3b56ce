"""A client that does nothing wrong while others attack: how long its calls and its connections take.

    python -m tests.support.servers.honest_caller ADDRESS MODEL INPUTS [--ca FILE] [--way rest | health | streams]

calls on one connection, a hundred times a second, and asks on new ones, 25 times a second, whether the server lives,
until its standard input ends; then it prints as JSON of each when it began, by time.monotonic, how many seconds it
took, and why it was not answered, or nothing. By the way "health" a call is a GET of /v2/health/live, too.
"""

import argparse
import json
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np

from kanserve.inference import grpc_service_pb2 as pb
from tests.support.faults.attackers import INFER, STREAM_INFER, trusting
from tests.support.peers.http1_peer import Http1Peer, request
from tests.support.peers.http2_peer import Peer
from tests.support.servers.rest_port import infer
from tests.support.servers.server_load import request as infer_message

LIVE = "/inference.GRPCInferenceService/ServerLive"
SECONDS = 5.0  # a call without an answer within these is lost
TOO_LATE = f"no answer within {SECONDS:.0f} s"
ENDED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
Way = Literal["grpc", "rest", "health", "streams"]


class Sample(NamedTuple):
    kind: str  # "call", or "connection": a new one and its first answer
    begun: float
    seconds: float
    failure: str  # why there was no answer; empty if there was one


class Caller:
    """Asks one server in one way."""

    def __init__(self, address: str, model: str, inputs: int, ca: str = "", way: Way = "grpc") -> None:
        self._address, self._way = address, way
        rows = np.zeros((1, inputs))
        self._tls: ssl.SSLContext | None = trusting(ca, way in ("rest", "health"))
        self._message = infer_message(model, rows)
        body = json.dumps(infer(rows)).encode()
        self._live = request("/v2/health/live")
        self._request = request(f"/v2/models/{model}/infer", "POST", body, Content_Type="application/json")
        if way == "health":
            self._request = self._live
        self._peer: Peer | Http1Peer | None = None

    def call(self) -> str:
        """On the connection that is open. Where the server has ended that, as it may end an idle one, the call goes on
        another one, as those of client libraries do. Returns why there was no answer, or nothing."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            try:
                self._peer = self._peer or self._connected()
                return self._ask(self._peer)
            except (OSError, KeyError) as error:
                self._leave()
                if not _is_an_end(error):
                    return repr(error)
        return TOO_LATE

    def connect(self) -> str:
        """On a connection of its own, and on another one where the server has ended the first before it was asked."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            try:
                with self._connected() as peer:
                    if isinstance(peer, Http1Peer):
                        return _unless(peer.ask(self._live).status, 200)
                    answered = peer.ask(LIVE)
                    if "grpc-status" in answered.headers:
                        live = answered.status or pb.ServerLiveResponse.FromString(answered.messages[0]).live
                        return _unless(live, True)
            except OSError as error:
                if not _is_an_end(error):
                    return repr(error)
        return TOO_LATE

    def _connected(self) -> Peer | Http1Peer:
        if self._way in ("rest", "health"):
            return Http1Peer(self._address, tls=self._tls, seconds=SECONDS)
        peer = Peer(self._address, tls=self._tls, seconds=SECONDS)
        peer.open()  # for all answers that will come
        return peer

    def _ask(self, peer: Peer | Http1Peer) -> str:
        if isinstance(peer, Http1Peer):
            answer = peer.ask(self._request)
            if answer.headers.get("connection") == "close":
                self._leave()
            return _unless(answer.status, 200)
        answered = peer.ask(STREAM_INFER if self._way == "streams" else INFER, self._message)
        peer.answers.clear()
        if "grpc-status" not in answered.headers:
            raise ConnectionResetError("the connection has ended")
        return _unless(answered.status, 0)

    def _leave(self) -> None:
        if self._peer is not None:
            self._peer.__exit__(None, None, None)
        self._peer = None


def _is_an_end(error: Exception) -> bool:
    """Whether the server has ended the connection, in which case client libraries try again."""
    broken_off = isinstance(error, ssl.SSLError) and error.errno == ssl.SSL_ERROR_SYSCALL  # TLS, while it is written
    return isinstance(error, ENDED) or broken_off


def _unless(status: int, wanted: int) -> str:
    return "" if status == wanted else f"status {status}"


def measure(caller: Caller, over: threading.Event) -> list[Sample]:
    """Call and connect until it is over."""
    samples: list[Sample] = []

    def repeat(kind: str, ask: Callable[[], str], pause: float) -> None:
        while not over.wait(pause):
            begun = time.monotonic()
            failure = ask()
            samples.append(Sample(kind, begun, time.monotonic() - begun, failure))

    threads = [
        threading.Thread(target=repeat, args=given)
        for given in (("call", caller.call, 0.01), ("connection", caller.connect, 0.04))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return samples


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("model")
    parser.add_argument("inputs", type=int)
    parser.add_argument("--ca", default="")
    parser.add_argument("--way", choices=get_args(Way), default="grpc")
    given = parser.parse_args()
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    caller = Caller(given.address, given.model, given.inputs, given.ca, given.way)
    print(json.dumps(measure(caller, over)))


if __name__ == "__main__":
    main()
