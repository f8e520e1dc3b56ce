"""Every method of every service by everybody who may and who may not call it, on a real server."""

import hashlib
import os
import threading
from collections import Counter
from dataclasses import astuple

import grpc
import pytest

from kanserve.inference import grpc_service_pb2 as pb
from kanserve.serve import server
from kanserve.serve.auth import grants as access
from kanserve.serve.settings import Grant, Settings
from kanserve.v1 import formula_pb2
from tests.support.faults.hostile_requests import KINDS, Sender
from tests.support.servers import keys
from tests.support.servers.callers import TOKENS, Caller, models, rules, token

CODE = grpc.StatusCode
REFUSALS = (CODE.UNAUTHENTICATED, CODE.PERMISSION_DENIED)
AUTHORITY = keys.authority()
UNNAMED = AUTHORITY.pair("a certificate without a grant")

NOT_LET_IN = {
    "no certificate": Caller(token=token("all")),
    "wrong CA": Caller(keys.authority("another").pair("all-robot"), token("all")),
    "expired": Caller(AUTHORITY.pair("all-robot", expired=True), token("all")),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    models(root)
    return str(root)


@pytest.fixture(scope="module")
def demanding(repository, tmp_path_factory):
    """A server that demands client certificates."""
    with server.start(rules(tmp_path_factory.mktemp("tls"), repository)) as running:
        yield running.address


@pytest.fixture(scope="module")
def plain(repository, tmp_path_factory):
    """A server with TLS that knows tokens alone."""
    with server.start(rules(tmp_path_factory.mktemp("tls"), repository, certificates=False)) as running:
        yield running.address


def answers(address: str, caller: Caller) -> dict[str, grpc.StatusCode]:
    """What each method says to an empty request."""
    with caller.channel(address) as channel:
        sender = Sender(channel, caller.metadata)
        return {path: sender.send(path, b"")[0] for path in KINDS}


def needs(path: str) -> tuple[str, ...]:
    return access.NEEDS[path]


@pytest.mark.parametrize("who", NOT_LET_IN)
def test_without_a_good_certificate_no_method_is_reached(demanding, who):
    codes = answers(demanding, NOT_LET_IN[who])
    print(f"{who}: {len(codes)} methods refused at the handshake")
    assert set(codes.values()) == {CODE.UNAVAILABLE}


def _bad(caller: Caller, address: str) -> None:
    for path, code in answers(address, caller).items():
        assert (code is CODE.UNAUTHENTICATED) is bool(needs(path)), (path, code)


def test_a_bad_token_and_none_are_refused_by_all_but_the_probes(demanding, plain):
    for caller in (
        Caller(UNNAMED),
        Caller(UNNAMED, "no such token"),
        Caller(AUTHORITY.pair("all-robot"), "no such token"),
    ):
        _bad(caller, demanding)
    for caller in (Caller(), Caller(token="no such token"), Caller(token=token("all")[:-1])):
        _bad(caller, plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("kind", ["token", "certificate", "token without a certificate"])
def test_a_known_caller_reaches_what_its_role_allows_and_nothing_else(demanding, plain, name, kind):
    caller = {
        "token": Caller(UNNAMED, token(name)),
        "certificate": Caller(AUTHORITY.pair(f"{name}-robot")),
        "token without a certificate": Caller(token=token(name)),
    }[kind]
    codes = answers(plain if kind == "token without a certificate" else demanding, caller)
    for path, code in codes.items():
        if not needs(path) or set(TOKENS[name]) & set(needs(path)):
            assert code not in (*REFUSALS, CODE.UNAVAILABLE), (path, code)
        else:
            assert code is CODE.PERMISSION_DENIED, (path, code)
    print(f"{name} by {kind}: {dict(Counter(code.name for code in codes.values()))}")


# Models that a caller may not see


@pytest.fixture(scope="module")
def limited(repository):
    """A server for a caller of one of its two models."""
    digest = hashlib.sha256(b"the token of a caller of one model").hexdigest()
    grant = Grant(("predict", "read", "manage"), name="one", token_sha256=digest, models=("plain",))
    with (
        server.start(Settings(repository=repository, port=0, access=(grant,))) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        yield Sender(channel, Caller(token="the token of a caller of one model").metadata)


NAMED = [
    *(
        (f"/inference.GRPCInferenceService/Model{method}", pb.ModelReadyRequest)
        for method in ("Ready", "Metadata", "Config")
    ),
    ("/inference.GRPCInferenceService/ModelStatistics", pb.ModelStatisticsRequest),
    *((f"/kanserve.v1.FormulaService/{one}", formula_pb2.GetFormulaRequest) for one in ("GetFormula", "GetNetwork")),
    ("/kanserve.v1.FormulaService/Differentiate", formula_pb2.DifferentiateRequest),
    ("/kanserve.v1.FormulaService/ExportSource", formula_pb2.ExportSourceRequest),
    ("/kanserve.v1.FormulaService/Watch", formula_pb2.WatchRequest),
    ("/inference.GRPCInferenceService/ModelInfer", pb.ModelInferRequest),
    ("/inference.GRPCInferenceService/RepositoryModelLoad", pb.RepositoryModelLoadRequest),
    ("/inference.GRPCInferenceService/RepositoryModelUnload", pb.RepositoryModelUnloadRequest),
]


@pytest.mark.parametrize(("path", "kind"), NAMED)
@pytest.mark.parametrize("name", ["iris", "none"])
def test_a_model_of_others_is_refused_whether_or_not_it_is_there(limited, path, kind, name):
    field = "name" if "name" in kind.DESCRIPTOR.fields_by_name else "model_name"
    code, text, answer = limited.send(path, kind(**{field: name}).SerializeToString())
    assert (code, text, answer) == (CODE.PERMISSION_DENIED, "The caller may not use this model.", b"")


def test_the_spelling_of_a_request_to_load_opens_no_back_door(limited):
    for method in ("Load", "Unload"):
        request = pb.RepositoryModelLoadRequest(repository_name="iris")  # where KServe's client has the name
        code, _, _ = limited.send(
            f"/inference.GRPCInferenceService/RepositoryModel{method}", request.SerializeToString()
        )
        assert code is CODE.PERMISSION_DENIED


def test_streams_and_lists_say_nothing_of_the_models_of_others(limited):
    request = pb.ModelInferRequest(model_name="iris").SerializeToString()
    code, _, answer = limited.send("/inference.GRPCInferenceService/ModelStreamInfer", request)
    assert code is CODE.OK
    assert pb.ModelStreamInferResponse.FromString(answer).error_message == "The caller may not use this model."
    for path in (
        "/inference.GRPCInferenceService/RepositoryIndex",
        "/inference.GRPCInferenceService/ModelStatistics",
        "/kanserve.v1.FormulaService/Watch",
    ):
        code, _, answer = limited.send(path, b"")
        assert code is CODE.OK and b"plain" in answer and b"iris" not in answer, path


# Rotation


@pytest.mark.slow
@pytest.mark.extended
def test_twenty_rotations_under_load_fail_no_call(repository, tmp_path):
    """Of a connection that stays, and of connections that are made anew."""
    settings = rules(tmp_path, repository)
    caller = Caller(AUTHORITY.pair("all-robot"))
    path, answered, failed, done = "/inference.GRPCInferenceService/ServerMetadata", [0], list[str](), threading.Event()

    def call(sender):
        code, text, _ = sender.send(path, b"")
        answered[0] += code is CODE.OK
        if code is not CODE.OK:
            failed.append(f"{code}: {text}")

    def stay(address):
        with caller.channel(address) as channel:
            sender = Sender(channel)
            while not done.is_set():
                call(sender)

    def come_and_go(address):
        while not done.is_set():
            with caller.channel(address) as channel:
                call(Sender(channel))

    with server.start(settings) as running:
        threads = [threading.Thread(target=work, args=(running.address,)) for work in (stay, come_and_go, come_and_go)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                before = answered[0]
                for name, data in zip(("server.crt", "server.key"), astuple(AUTHORITY.pair("server")), strict=True):
                    (tmp_path / "part").write_bytes(data)
                    os.replace(tmp_path / "part", tmp_path / name)
                while answered[0] < before + 20 and not failed:
                    done.wait(0.001)
        finally:
            done.set()
            for thread in threads:
                thread.join()
    print(f"20 certificate rotations under load: {answered[0]} calls, {len(failed)} failures")
    assert not failed and answered[0] >= 400
