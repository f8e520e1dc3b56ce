"""What gRPC demands of a server that clients' mistakes reach, by raw frames, of both transports.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import gzip
import struct
import time

import pytest

from kanserve.inference import grpc_service_pb2 as pb
from kanserve.serve.settings import Settings
from kanserve.v1 import formula_pb2
from tests.support.peers.http2_peer import DATA, END_STREAM, NO_ERROR, Answer, Peer
from tests.support.servers.loop_server import needs_native
from tests.support.servers.protocol_calls import (
    GET_FORMULA,
    INFER,
    INTERNAL,
    INVALID_ARGUMENT,
    LIVE,
    NOT_FOUND,
    OK,
    RESOURCE_EXHAUSTED,
    SERVICE,
    STREAM,
    UNIMPLEMENTED,
    WRAPPED,
    is_answered,
    row,
)


@pytest.fixture(scope="module", params=["native", "grpcio"])
def settings(request, repository) -> Settings:
    if request.param == "native":
        needs_native()
    return Settings(str(repository), port=0, transport=request.param, max_message_bytes=2**20)


@pytest.fixture
def native(settings) -> bool:
    return bool(settings.transport == "native")


@pytest.fixture
def peer(server):
    with Peer(server.address) as connected:
        connected.round_trip()
        yield connected


def test_an_error_is_one_block_of_headers_whose_text_is_percent_encoded(peer):
    answer = peer.ask(INFER, pb.ModelInferRequest(model_name="größe\n100 %").SerializeToString())
    assert (answer.headers[":status"], answer.parts, answer.data) == ("200", 1, b"")
    assert answer.headers["content-type"] == "application/grpc"
    assert answer.status in (INVALID_ARGUMENT, NOT_FOUND)
    assert answer.headers["grpc-message"].isascii()
    assert "größe" in answer.headers["grpc-message"].encode("latin-1").decode() or "gr%C3%B6%C3%9Fe" in answer.headers[
        "grpc-message"
    ].replace("%c3%b6%c3%9fe", "%C3%B6%C3%9Fe")


def test_an_error_before_the_end_of_the_body_is_followed_by_a_reset_without_error(peer):
    stream = peer.call(INFER)
    peer.frame(DATA, 0, stream, struct.pack(">BI", 0, 2**30))
    answer = peer.answer(stream, reset=True)
    assert (answer.status, answer.reset) == (RESOURCE_EXHAUSTED, NO_ERROR)
    peer.frame(DATA, END_STREAM, stream, b"what was on its way")
    assert is_answered(peer)


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;x=1"])
def test_the_content_types_of_grpc_are_taken(peer, kind):
    assert peer.ask(LIVE, content_type=kind).status == OK


@pytest.mark.parametrize(
    "path", ["/", "/a/b", f"{SERVICE}Nothing", f"{SERVICE}ModelInfer/", "/inference.None/ModelInfer"]
)
def test_unknown_methods_are_unimplemented(peer, path):
    assert peer.ask(path).status == UNIMPLEMENTED


def test_a_call_without_a_message_is_refused(peer):
    assert peer.answer(peer.call(LIVE, end=True)).status == INVALID_ARGUMENT
    stream = peer.call(LIVE)
    peer.frame(DATA, END_STREAM, stream)
    assert peer.answer(stream).status == INVALID_ARGUMENT


@pytest.mark.parametrize("sent", [b"\0", b"\0\0\0\0", struct.pack(">BI", 0, 9), struct.pack(">BI", 0, 9) + b"12345678"])
def test_a_call_that_ends_within_a_message_is_an_error(peer, native, sent):
    stream = peer.call(LIVE)
    peer.frame(DATA, END_STREAM, stream, sent)
    assert peer.answer(stream).status in ((INTERNAL,) if native else (INTERNAL, INVALID_ARGUMENT))


@pytest.mark.parametrize("encoding", WRAPPED)
@pytest.mark.parametrize("path", [INFER, STREAM])
def test_compressed_messages_are_taken(peer, encoding, path):
    stream = peer.call(path, grpc_encoding=encoding)
    peer.message(stream, WRAPPED[encoding](row()), flag=1)
    answer = peer.answer(stream)
    assert (answer.status, len(answer.messages)) == (OK, 1), answer.text


def test_a_compressed_message_wants_an_encoding(peer, native):
    stream = peer.call(INFER)
    peer.message(stream, gzip.compress(row()), flag=1)
    assert peer.answer(stream).status in ((INTERNAL,) if native else (INTERNAL, UNIMPLEMENTED, INVALID_ARGUMENT))


@pytest.mark.parametrize("encoding", WRAPPED)
def test_a_message_that_cannot_be_decompressed_is_an_error(peer, native, encoding):
    for broken in (b"", b"no", WRAPPED[encoding](row())[:-1], WRAPPED[encoding](row()) + b"x"):
        stream = peer.call(INFER, grpc_encoding=encoding)
        peer.message(stream, broken, flag=1)
        status = peer.answer(stream).status
        assert status != OK and (status == INTERNAL or not native), broken
    assert is_answered(peer)


@pytest.mark.parametrize("encoding", WRAPPED)
def test_a_bomb_is_refused(peer, encoding):
    stream = peer.call(INFER, grpc_encoding=encoding)
    peer.message(stream, WRAPPED[encoding](bytes(2**26)), flag=1)
    assert peer.answer(stream).status == RESOURCE_EXHAUSTED
    assert is_answered(peer)


@pytest.mark.parametrize("timeout", ["99999999H", "60M", "60S", "60000m", "60000000u", "59999999u"])
def test_a_long_timeout_does_not_matter(peer, timeout):
    assert peer.ask(INFER, row(), grpc_timeout=timeout).status == OK


@pytest.mark.parametrize("size", [10_000, 20_000, 40_000])
def test_headers_of_more_than_their_limit_are_refused(peer, native, size):
    answer = peer.ask(LIVE, x_large="a" * size)
    assert answer.reset is not None if "grpc-status" not in answer.headers else answer.status == RESOURCE_EXHAUSTED
    assert is_answered(peer)


def test_an_id_comes_back_and_must_be_utf8(peer):
    request = pb.ModelInferRequest.FromString(row())
    request.id = "Größe 7"
    answer = pb.ModelInferResponse.FromString(peer.ask(INFER, request.SerializeToString()).messages[0])
    assert answer.id == "Größe 7"
    assert peer.ask(INFER, row() + b"\x1a\x02\xff\xfe").status == INVALID_ARGUMENT


def test_a_repeated_field_of_contents_is_refused(peer):
    twice = pb.ModelInferRequest.FromString(row())
    twice.raw_input_contents.append(twice.raw_input_contents[0])
    assert peer.ask(INFER, twice.SerializeToString()).status == INVALID_ARGUMENT
    both = pb.ModelInferRequest.FromString(row())
    both.inputs[0].contents.fp64_contents.extend([0.5, 0.5])
    assert peer.ask(INFER, both.SerializeToString()).status == INVALID_ARGUMENT


def test_shared_memory_and_classification_are_refused(peer):
    shared = pb.ModelInferRequest.FromString(row())
    shared.inputs[0].parameters["shared_memory_region"].string_param = "region"
    assert peer.ask(INFER, shared.SerializeToString()).status in (INVALID_ARGUMENT, UNIMPLEMENTED)
    classified = pb.ModelInferRequest.FromString(row("iris"))
    classified.outputs.add(name="y").parameters["classification"].int64_param = 2
    assert peer.ask(INFER, classified.SerializeToString()).status in (INVALID_ARGUMENT, UNIMPLEMENTED)


def test_many_calls_in_one_write_are_all_answered(server):
    with Peer(server.address) as peer:
        peer.round_trip()
        streams = [peer.call(INFER) for _ in range(200)]
        for stream in reversed(streams):
            peer.message(stream, row())
        answers = [peer.answer(stream) for stream in streams]
        assert {(answer.status, len(answer.messages)) for answer in answers} == {(OK, 1)}


def test_a_client_that_leaves_is_forgotten(server):
    for _ in range(20):
        with Peer(server.address) as peer:
            peer.message(peer.call(INFER), row())
            peer.message(peer.call(STREAM), row(), end=False)
    with Peer(server.address) as peer:
        assert is_answered(peer)


def ask_formula(peer: Peer, accepts: str | None = None) -> Answer:
    stream = peer.call(GET_FORMULA, grpc_accept_encoding=accepts)
    peer.open(stream)
    peer.message(stream, formula_pb2.GetFormulaRequest(model_name="iris").SerializeToString())
    return peer.answer(stream)


def unpacked(answer: Answer) -> bytes:
    (message,) = answer.messages
    assert answer.headers.get("grpc-encoding", "identity") == ("gzip" if answer.data[0] else "identity")
    return gzip.decompress(message) if answer.data[0] else message


@pytest.mark.parametrize(
    ("accepts", "compressed"),
    [
        ("identity, deflate, gzip", True),
        ("gzip", True),
        ("identity,gzip ,br", True),
        ("identity", False),
        ("xgzip, gzipped", False),
        ("", False),
        (", ,", False),
        (None, False),
    ],
)
def test_a_formula_that_is_known_is_compressed_for_those_who_take_it(peer, native, accepts, compressed):
    peer.open()
    first = ask_formula(peer)
    while native and not ask_formula(peer, "gzip").data[0]:
        time.sleep(0.01)  # the loop learns of an answer after it was given
    answer = ask_formula(peer, accepts)
    assert (first.status, answer.status) == (OK, OK)
    assert unpacked(first) == unpacked(answer)
    assert bool(answer.data[0]) == (compressed and native)
    assert not compressed or len(unpacked(answer)) > 1024  # what is smaller is sent as it is
