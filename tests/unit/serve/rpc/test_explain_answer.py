"""Explain: contributions to predictions over both transports, REST, both clients and the command."""

import asyncio
import json
from urllib.request import Request, urlopen

import numpy as np
import pytest

import kanserve as ks
from kanserve import repository
from kanserve.client import AsyncClient, Client
from kanserve.errors import TensorError
from kanserve.network.shapley_values import center_scores, estimate_work
from kanserve.network.training_bins import with_training_bins
from kanserve.serve.models.catalog import EXPLAINED_VALUES
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.networks.kans import ZOO

RNG = np.random.default_rng(4)
ROWS = RNG.uniform(0, 1, (7, 3))


def network() -> ks.Kan:
    kan = ks.from_formula("x*y + 2*z", ranges=dict.fromkeys("xyz", (0, 1)))
    return with_training_bins(kan, RNG.uniform(0, 1, (500, 3)) ** 4)


@pytest.fixture(scope="module", params=["auto", "grpcio"])
def explaining_server(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    repository.publish(root, "law", ks.compile(network(), ["numpy_source"]))
    repository.publish(root, "classes", ks.compile(ZOO["classifier"](), ["numpy_source"]))
    with start(Settings(str(root), port=0, http_port=0, transport=request.param)) as running:
        yield running


def test_a_server_explains_as_the_network_does_and_the_sums_are_the_predictions(explaining_server):
    with Client(explaining_server.address) as client:
        found, own = client.explain("law", ROWS), network().explain(ROWS)
        np.testing.assert_allclose(found.values, own.values, rtol=0, atol=0.02)  # the bins are of other rows
        np.testing.assert_allclose(found.predictions, client.predict("law", ROWS), rtol=1e-9, atol=1e-9)
        assert abs(found.base[0] - (1 / 25 + 2 / 5)) < 0.1  # the means of u^4; evenly over the range it would be 1.25
        kan = ZOO["classifier"]()
        x = ks.network.training_range.sample(kan, 3)
        np.testing.assert_allclose(client.explain("classes", x).predictions, center_scores(kan, kan(x)), atol=1e-9)


def test_rest_and_the_asynchronous_client_say_the_same_and_too_many_rows_go_in_parts(explaining_server, monkeypatch):
    async def ask() -> ks.analysis.Contributions:
        async with AsyncClient(explaining_server.address) as client:
            return await client.explain("law", ROWS)

    with Client(explaining_server.address) as client:
        whole = client.explain("law", ROWS)
        body = json.dumps({"rows": ROWS.tolist()}).encode()
        address = f"http://{explaining_server.http_address}/v2/models/law/explanation"
        with urlopen(Request(address, body, {"Content-Type": "application/json"})) as answer:
            said = json.load(answer)
        np.testing.assert_array_equal(said["contributions"], whole.values)
        assert [given["name"] for given in said["inputs"]] == list("xyz") and said["base"] == whole.base.tolist()
        np.testing.assert_array_equal(asyncio.run(ask()).values, whole.values)
        table = dict(zip("zxy", ROWS[:, [2, 0, 1]].T, strict=True))
        model = explaining_server.state.catalog.find("law")
        monkeypatch.setitem(vars(model), "max_explained_rows", 3)
        np.testing.assert_array_equal(client.explain("law", table).values, whole.values)


def test_what_would_take_too_long_is_refused_and_rows_of_another_width(explaining_server, monkeypatch):
    assert EXPLAINED_VALUES // estimate_work(ks.create([784, 64, 10], seed=0)) == 0
    with Client(explaining_server.address) as client:
        with monkeypatch.context() as patch, pytest.raises(TensorError, match="takes too long to explain"):
            patch.setitem(vars(explaining_server.state.catalog.find("law")), "max_explained_rows", 0)
            client.explain("law", ROWS)
        with pytest.raises(TensorError, match=r"rows must have shape \[rows, 3\]"):
            client.explain("law", np.zeros((1, 2)))
        assert client.explain("law", np.zeros((0, 3))).values.shape == (0, 1, 3)


def test_the_command_prints_what_a_server_explains(explaining_server, kanserve, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("x,y,z\n0.5,0.5,0.5\n")
    code, out, error = kanserve("explain", f"{explaining_server.address}/law", str(rows))
    assert (code, error) == (0, "") and out.splitlines()[0].startswith("y = 1.25: ")
    code, _, error = kanserve("explain", f"{explaining_server.address}/law", str(rows), "--data", str(rows))
    assert code == 2 and "give no --data" in error
