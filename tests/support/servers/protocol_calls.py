"""Calls of the protocol tests, and what they compare with."""

import gzip
import zlib
from collections.abc import Callable

import numpy as np

from tests.support.peers.http2_peer import HEADERS, Peer
from tests.support.servers.serving import infer_request

SERVICE = "/inference.GRPCInferenceService/"
LIVE, INFER, READY = f"{SERVICE}ServerLive", f"{SERVICE}ModelInfer", f"{SERVICE}ModelReady"
STREAM = f"{SERVICE}ModelStreamInfer"
GET_FORMULA = "/kanserve.v1.FormulaService/GetFormula"
OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 3, 4, 5
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 12, 13, 14
WRAPPED: dict[str, Callable[[bytes], bytes]] = {  # compressors of what grpc-encoding names
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}


def row(model: str = "raw") -> bytes:
    inputs = {"raw": 2, "iris": 2}[model]
    return infer_request(model, np.full((1, inputs), 0.5)).SerializeToString()


def http_status(peer: Peer, stream: int) -> str:
    for got in peer.frames():
        if got.stream == stream and got.kind == HEADERS:
            break
    return peer.answers[stream].headers[":status"]


def is_answered(peer: Peer) -> bool:
    """The connection still serves."""
    return peer.ask(LIVE).status == OK
