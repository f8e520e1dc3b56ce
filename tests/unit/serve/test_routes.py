"""Aliases and weights: which version answers, that a rollback loses no request, and what a wrong file is told."""

import json
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.request import Request, urlopen

import grpc
import numpy as np
import pytest
from scipy.stats import binom

import kanserve as ks
from kanserve import repository
from kanserve.client import Client
from kanserve.errors import AccessError, InputError, NotFoundError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve.models import routes
from kanserve.serve.models.routes import DRAWS, Route, change_routes, draw, read_routes, shares
from kanserve.serve.server import Server, start
from kanserve.serve.settings import Grant, Settings

BOTH = {"aliases": {"stable": 1, "canary": 2}, "weights": {"stable": 90, "canary": 10}}
ONE = np.ones((1, 1))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1, 2 and 3 of a model that multiplies by its version."""
    root = tmp_path_factory.mktemp("models")
    for version in (1, 2, 3):
        law = ks.from_formula(f"{version}*x", ranges={"x": (0, 2)})
        repository.publish(root, "houses", ks.compile(law, ["c_source", "numpy_source"]))
    return root


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "routes.json"
    path.write_text(json.dumps({"houses": BOTH}))
    return path


@pytest.fixture(params=["auto", "grpcio"])
def either_server(request, models, file, monkeypatch):
    monkeypatch.setattr(routes, "LOOK", 0.02)
    settings = Settings(str(models), port=0, http_port=0, transport=request.param, routes=str(file), versions="1,2")
    with start(settings) as running:
        yield running


@pytest.fixture(params=["auto", "grpcio"])
def server_by_user(request, models, file):
    settings = Settings(str(models), port=0, http_port=0, transport=request.param, routes=str(file), versions="1,2")
    with start(replace(settings, route_header="x-user-id")) as running:
        yield running


def message(request_id: str) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 1])
    raw = [ONE.tobytes()]
    return pb.ModelInferRequest(model_name="houses", id=request_id, inputs=[tensor], raw_input_contents=raw)


def rest(server: Server, model: str, request_id: str = "", **headers: str) -> tuple[str, float]:
    body = {"id": request_id, "inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [1.0]}]}
    request = Request(
        f"http://{server.http_address}/v2/models/{model}/infer",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()},
    )
    with urlopen(request) as answer:
        said = json.load(answer)
    return said["model_version"], said["outputs"][0]["data"][0]


def test_weights_are_within_binomial_noise_over_10_000_requests():
    ends = shares(Route({}, {1: 90, 2: 10}), {1: None, 2: None})
    for ids in ([""] * 10_000, [f"request-{number}" for number in range(10_000)]):
        second = sum(draw(request_id) >= ends[0][0] for request_id in ids)
        assert binom.cdf(second, 10_000, 0.1) > 1e-3 and binom.sf(second, 10_000, 0.1) > 1e-3


def test_a_server_splits_by_the_id_in_both_transports_and_over_rest(either_server):
    expected = ["1" if draw(f"r{number}") < round(0.9 * DRAWS) else "2" for number in range(40)]
    with grpc.insecure_channel(either_server.address) as channel:
        stub = wire.stub(channel)
        assert [stub.ModelInfer(message(f"r{number}")).model_version for number in range(40)] == expected
    assert [rest(either_server, "houses", f"r{number}")[0] for number in range(40)] == expected
    assert len(set(expected)) == 2


def expected_version(key: str) -> str:
    return "1" if draw(key) < round(0.9 * DRAWS) else "2"


def test_one_user_always_gets_one_version_in_both_transports_and_over_rest(server_by_user):
    users = [f"user-{number}" for number in range(30)]
    assert {expected_version(user) for user in users} == {"1", "2"}
    with grpc.insecure_channel(server_by_user.address) as channel:
        stub = wire.stub(channel)
        for turn, user in enumerate(2 * users):
            metadata = (("x-other", "x-user-id"), ("x-user-id", user), ("x-user-id", "another"))
            answer = stub.ModelInfer(message(f"r{turn}"), metadata=metadata)
            assert (answer.model_version, answer.id) == (expected_version(user), f"r{turn}")
            assert rest(server_by_user, "houses", f"r{turn}", X_USER_ID=user)[0] == expected_version(user)
            assert rest(server_by_user, "houses", X_USER_ID=user)[0] == expected_version(user)
        streamed = stub.ModelStreamInfer(iter([message("a"), message("b")]), metadata=(("x-user-id", users[0]),))
        assert {answer.infer_response.model_version for answer in streamed} == {expected_version(users[0])}
        pinned = message("r")
        pinned.model_version = "2"
        assert stub.ModelInfer(pinned, metadata=(("x-user-id", users[0]),)).model_version == "2"


def test_without_the_header_or_with_one_that_is_not_ascii_the_id_decides(server_by_user):
    ids = [f"r{number}" for number in range(30)]
    with grpc.insecure_channel(server_by_user.address) as channel:
        stub = wire.stub(channel)
        for request_id in ids:
            want = expected_version(request_id)
            assert stub.ModelInfer(message(request_id)).model_version == want
            assert stub.ModelInfer(message(request_id), metadata=(("x-user-id", ""),)).model_version == want
            assert rest(server_by_user, "houses", request_id)[0] == want
            assert rest(server_by_user, "houses", request_id, X_USER_ID="J\xfcrgen")[0] == want


@pytest.mark.slow
def test_users_are_divided_within_binomial_noise_over_10_000_requests(server_by_user):
    with grpc.insecure_channel(server_by_user.address) as channel:
        ask = wire.stub(channel).ModelInfer
        second = 0
        for first in range(0, 10_000, 50):  # few enough for the queue
            users = [f"user-{number}" for number in range(first, first + 50)]
            pending = [ask.future(message(""), metadata=(("x-user-id", user),)) for user in users]
            second += sum(call.result().model_version == "2" for call in pending)
    assert binom.cdf(second, 10_000, 0.1) > 1e-3 and binom.sf(second, 10_000, 0.1) > 1e-3


def test_requests_without_an_id_are_spread_and_counted_by_version(either_server):
    with Client(either_server.address) as client:
        answers = [client.infer("houses", ONE) for _ in range(200)]
        assert all(answer.values[0, 0] == answer.version for answer in answers)
        found = Counter(answer.version for answer in answers)
        assert found[1] == pytest.approx(180, abs=3)
        assert {version.version: version.rows for version in client.statistics("houses")} == dict(found)
        assert [version.version for version in client.statistics("houses@canary")] == [2]


def test_an_alias_names_a_version_in_every_call(either_server):
    with Client(either_server.address) as client:
        for alias, version in (("stable", 1), ("canary", 2)):
            name = f"houses@{alias}"
            assert client.predict(name, ONE).tolist() == [[version]] and client.metadata(name).version == version
            assert client.differentiate(name, ONE)[1].ravel().tolist() == [version]
            assert client.formula(name)[0].text == ("x" if version == 1 else "2*x")
            assert rest(either_server, name) == (str(version), version)
        assert client.metadata("houses").version == 1  # the largest weight
        many = client.predict("houses@canary", np.ones((70_000, 1)))  # in two requests
        assert set(many.ravel()) == {2.0}


def test_what_is_no_alias_is_refused_with_those_that_are(either_server):
    with Client(either_server.address) as client:
        with pytest.raises(NotFoundError, match="no alias 'old' of 'houses'; there are: stable, canary"):
            client.predict("houses@old", ONE)
        with pytest.raises(NotFoundError, match="no alias 'stable' of 'cars'; there are: none"):
            client.predict("cars@stable", ONE)
        with pytest.raises(NotFoundError, match="no version 7"):
            client.predict("houses@stable", ONE, version=7)


@pytest.mark.slow
def test_a_rollback_under_load_fails_no_request_and_ends_at_one_version(either_server, file, kanserve):
    ended = False

    def ask(_: int) -> list[tuple[float, int]]:
        found = []
        with Client(either_server.address) as client:
            while not ended:
                answer = client.infer("houses", ONE)
                found.append((answer.values[0, 0], answer.version))
        return found

    with ThreadPoolExecutor(4) as threads, Client(either_server.address) as client:
        asking = [threads.submit(ask, number) for number in range(4)]
        try:
            for weights, main in (("stable=10,canary=90", 2), ("stable=100", 1)):
                assert kanserve("route", str(file), "houses", "--weights", weights)[0] == 0
                until = time.monotonic() + 60
                while client.metadata("houses").version != main and time.monotonic() < until:
                    time.sleep(0.01)
            last = [client.infer("houses", ONE).version for _ in range(100)]
        finally:
            ended = True
        answers = [answer for future in asking for answer in future.result()]
    assert set(last) == {1} and all(value == version for value, version in answers) and len(answers) > 100


def test_a_file_that_cannot_be_used_leaves_the_routes_as_they_were(either_server, file, caplog):
    with Client(either_server.address) as client:
        for wrong in ("{", '{"houses": {"weights": {"new": 1}}}'):
            file.write_text(wrong)
            until = time.monotonic() + 20
            while wrong[1:-1] not in caplog.text and "routes before stay" not in caplog.text:
                assert time.monotonic() < until
                time.sleep(0.01)
        file.unlink()
        assert client.predict("houses@canary", ONE).tolist() == [[2]]


def test_weights_of_versions_that_are_not_loaded_go_to_the_others():
    route = Route({}, {1: 1, 2: 1, 3: 2})
    assert shares(route, {1: None, 2: None, 3: None})[0] == (DRAWS // 2, 3)
    assert shares(route, {1: None, 2: None}) == ((DRAWS // 2, 1), (DRAWS, 2))
    assert shares(route, {5: None}) == shares(Route(), {1: None}) == ()


def test_a_grant_for_a_model_holds_for_its_aliases(models, file):
    token = "a token that nobody guesses"
    access = (Grant(("predict", "read"), token_sha256=sha256(token.encode()).hexdigest(), models=("houses",)),)
    settings = Settings(str(models), port=0, routes=str(file), access=access)
    with start(settings) as running, Client(running.address, token=token) as client:
        assert client.predict("houses@canary", ONE).tolist() == [[2]]
        with pytest.raises(AccessError):
            client.predict("cars@canary", ONE)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "cannot be used"),
        ("[1]", "an object of models"),
        ('{"Houses!": {}}', "cannot be used"),
        ('{"houses": []}', "keys aliases and weights"),
        ('{"houses": {"alias": {}}}', "keys aliases and weights"),
        ('{"houses": {"aliases": []}}', "are objects"),
        ('{"houses": {"aliases": {"3": 3}}}', "An alias is a lower-case letter"),
        ('{"houses": {"aliases": {"stable": 0}}}', "cannot be used"),
        ('{"houses": {"aliases": {"stable": "x"}}}', "cannot be used"),
        ('{"houses": {"weights": {"1": -1}}}', "A weight is a number of 0 or more"),
        ('{"houses": {"weights": {"1": true}}}', "A weight is a number of 0 or more"),
        ('{"houses": {"weights": {"1": NaN}}}', "A weight is a number of 0 or more"),
        ('{"houses": {"weights": {"1": 0}}}', "must be above 0"),
        ('{"houses": {"weights": {"new": 1}}}', "'new' is no alias. There are: none"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(tmp_path, text, error):
    path = tmp_path / "routes.json"
    path.write_text(text)
    with pytest.raises(InputError, match=error):
        read_routes(str(path))


def test_only_a_regular_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no regular file"):
        read_routes(str(tmp_path / "pipe"))
    with pytest.raises(InputError, match="cannot be read"):
        read_routes(str(tmp_path / "missing"))
    with pytest.raises(InputError, match="no regular file"):
        read_routes(str(tmp_path))


def test_the_command_makes_changes_and_shows_a_file(tmp_path, kanserve):
    path = tmp_path / "routes.json"
    code, out, _ = kanserve("route", str(path), "houses", "--alias", "stable=3,canary=4", "--weights", "stable=90,4=10")
    assert code == 0 and "stable = 3" in out
    assert read_routes(str(path)) == {"houses": Route({"stable": 3, "canary": 4}, {3: 90, 4: 10})}
    assert change_routes(path, "cars", {"old": 1}, {})["aliases"] == {"old": 1}
    assert kanserve("route", str(path), "houses", "--alias", "canary=5", "--weights", "stable=100")[0] == 0
    assert read_routes(str(path))["houses"] == Route({"stable": 3, "canary": 5}, {3: 100})
    before = path.read_bytes()
    for wrong in ("stable=x", "new=1", "stable", "stable=0"):
        assert kanserve("route", str(path), "houses", "--weights", wrong)[0] == 2 and path.read_bytes() == before
    assert kanserve("route", str(path), "houses", "--alias", "stable=1.5")[0] == 2
    assert kanserve("route", str(path), "houses")[0] == 0 and path.read_bytes() == before
