import asyncio
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pandas
import pytest

import kanserve
from kanserve import formula, repository
from kanserve.artifact_compiler import compile
from kanserve.client import AsyncClient, Client, Counted
from kanserve.errors import (
    AccessError,
    DataError,
    DeadlineError,
    FormulaError,
    InputError,
    InvalidNameError,
    NotFoundError,
    TensorError,
    UnreachableError,
)
from kanserve.network.derivatives import derivatives
from kanserve.network.evaluate import edges, evaluate, jacobian, probabilities
from kanserve.network.kan import Kan, make_layer
from kanserve.network.training_range import sample
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.agreement import assert_grouped_rows_agree
from tests.support.paths import ROOT
from tests.support.servers import serving


@pytest.mark.extended
@pytest.mark.parametrize("name", serving.KANS)
def test_predictions_are_what_the_network_means(client, name):
    kan = serving.kan(name)
    x = sample(kan, 9)
    got = client.predict(name, x)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, evaluate(kan, x), rtol=1e-4 if name == "single" else 1e-9)


def test_a_classifier_gives_probabilities_and_labels_too(client):
    kan = serving.kan("iris")
    x = sample(kan, 20)
    x[3, 0] = np.nan
    labels = client.predict("iris", x, output="label")
    scores = evaluate(kan, x)
    wanted = [kan.classes[index] for index in scores.argmax(axis=1)]
    wanted[3] = ""
    assert labels.tolist() == wanted
    np.testing.assert_allclose(client.predict("iris", x, output="probabilities"), probabilities(kan, x), rtol=1e-12)
    whole = client.infer("iris", x)
    assert whole.labels is not None and whole.labels.tolist() == wanted
    assert (whole.version, whole.outside, whole.outside_rows) == (1, 1, (3,))


def test_many_rows_travel_in_parts_and_come_back_as_one(client):
    kan = serving.kan("raw")
    x = sample(kan, 40_000)
    x[[0, 20_000, 39_999], 0] = 500.0
    prediction = client.infer("raw", x)
    np.testing.assert_allclose(prediction.values, evaluate(kan, x), rtol=1e-9)
    assert (prediction.outside, prediction.outside_rows) == (3, (0, 20_000, 39_999))


@pytest.mark.slow
@pytest.mark.extended
def test_rows_travel_in_parts_that_the_server_takes(tmp_path):
    kan = Kan((make_layer(np.random.default_rng(0).normal(size=(500, 1, 4))),))
    repository.publish(tmp_path, "broad", compile(kan, ("numpy_source",)))
    with start(tmp_path, port=0) as server, Client(server.address) as client:
        most = server.catalog.find("broad").max_rows
        x = sample(kan, most + 300)
        x[-1] = 500.0
        prediction = client.infer("broad", x)
        np.testing.assert_allclose(
            prediction.values[[0, most - 1, most, -1]], evaluate(kan, x[[0, most - 1, most, -1]])
        )
        assert prediction.values.shape == (most + 300, 500) and prediction.outside_rows == (most + 299,)


def test_rows_are_differentiated_in_parts_that_the_server_takes(server, client):
    kan = serving.kan("graph")
    x = sample(kan, server.catalog.find("graph").max_differentiated_rows + 300)
    values, jacobians = client.differentiate("graph", x)
    assert_grouped_rows_agree(values, evaluate(kan, x))
    assert_grouped_rows_agree(jacobians, jacobian(kan, x))
    values, jacobians = client.differentiate("graph", x[:0])
    assert values.shape == (0, 1) and jacobians.shape == (0, 1, 2)


def test_second_derivatives_come_in_parts_that_the_server_takes(server, client):
    kan = serving.kan("graph")
    most = server.catalog.find("graph").max_hessian_rows
    x = np.resize(sample(kan, 100), (most + 3, 2))
    values, jacobians, hessians = client.differentiate("graph", x, hessian=True)
    assert_grouped_rows_agree(values, evaluate(kan, x))
    assert_grouped_rows_agree(jacobians, jacobian(kan, x))
    assert_grouped_rows_agree(hessians, derivatives(kan, x, order=2))
    assert client.differentiate("graph", x[:0], hessian=True)[2].shape == (0, 1, 2, 2)


def test_no_rows_give_none(client):
    assert client.predict("iris", np.empty((0, 2))).shape == (0, 3)
    assert client.predict("iris", np.empty((0, 2)), output="label").shape == (0,)


@pytest.mark.parametrize("name", ["raw", "graph", "mixed"])
def test_a_formula_can_be_read_and_evaluated(client, name):
    kan = serving.kan(name)
    x = sample(kan, 10)
    for q, (got, wanted) in enumerate(zip(client.formula(name), formula.formulas(kan), strict=True)):
        assert (got.name, got.text, got.latex, got.tree) == (wanted.name, wanted.text, wanted.latex, wanted.tree)
        assert (got.variables, got.tables) == (wanted.variables, wanted.tables)
        np.testing.assert_allclose(got.evaluate(x), evaluate(kan, x)[:, q], rtol=1e-9)
    fit = client.formula("raw")[0]
    assert fit.r2 is not None and 0.9 < fit.r2 < 1 and fit.rmse is not None and fit.max_error is not None
    assert client.formula("graph")[0].r2 is None


def test_a_network_names_its_inputs_and_outputs_and_has_a_curve_for_each_edge(client):
    kan = serving.kan("mixed")
    network = client.network("mixed", curve_points=5)
    assert (network.name, network.version) == ("mixed", 1)
    assert network.inputs == ("x1", "x2") and network.outputs == ("y",)
    assert [edge.kind for edge in network.layers[0].edges] == ["sum", "symbolic", "spline", "zero"]
    assert network.edges == (*network.layers[0].edges, *network.layers[1].edges)
    first = network.edges[0]
    rows = np.stack([first.x, np.zeros(5)], axis=1)
    np.testing.assert_array_equal(first.y, edges(kan.layers[0], rows)[:, 0, 0])
    assert (first.function, first.affine) == ("sin", (2.0, 0.3, 0.7, -0.1))
    assert sum(edge.share for edge in network.layers[0].edges) == pytest.approx(1)
    assert [node.name for node in network.layers[1].nodes] == ["y"]
    assert [len(edge.x) for edge in client.network("mixed").edges] == [65, 65, 65, 0, 65, 65]
    raw = client.network("raw")
    assert raw.input_variables == serving.kan("raw").inputs
    np.testing.assert_array_equal(raw.input_affine, (serving.kan("raw").input_shift, serving.kan("raw").input_scale))


def test_derivatives_are_exact(client):
    kan = serving.kan("raw")
    x = sample(kan, 4)
    values, jacobians = client.differentiate("raw", x)
    np.testing.assert_allclose(values, evaluate(kan, x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jacobians, jacobian(kan, x), rtol=1e-12, atol=1e-12)


def test_a_formula_comes_in_the_formats_that_are_asked_for(client):
    (one,) = client.formula("graph", formats=["text", "rust", "fortran"])
    assert one.text == client.formula("graph")[0].text and not one.latex and not one.c
    kan = serving.kan("graph")
    assert one.functions == {name: formula.source(kan, name) for name in ("rust", "fortran")}
    x = sample(kan, 3)
    np.testing.assert_array_equal(one.evaluate(x), client.formula("graph")[0].evaluate(x))
    with pytest.raises(FormulaError, match="splines, which no language can express"):
        client.formula("raw", formats=["fortran"])
    with pytest.raises(InputError, match="got 'cobol'"):
        client.formula("raw", formats=["cobol"])


def test_a_model_is_loaded_and_let_go_at_a_clients_wish(tmp_path):
    repository.publish(tmp_path, "fox", serving.artifact("mixed"))
    settings = Settings(repository=str(tmp_path), port=0, anonymous=("predict", "read", "manage"))
    with start(settings) as server, Client(server.address) as client:
        client.unload("fox")
        assert not client.ready("fox") and not client.models()[0].ready
        repository.publish(tmp_path, "fox", serving.artifact("mixed"))
        client.load("fox")
        assert client.metadata("fox").versions == (1, 2)
        with pytest.raises(NotFoundError):
            client.load("owl")
    with start(tmp_path, port=0) as server, Client(server.address) as client, pytest.raises(AccessError):
        client.unload("fox")


def test_a_client_asks_what_was_answered_and_how_long_it_took(client):
    before = {statistic.name: statistic for statistic in client.statistics()}
    client.predict("wide", sample(serving.kan("wide"), 7))
    with pytest.raises(TensorError):
        client.predict("wide", [[1.0]])
    (after,) = client.statistics("wide", 1)
    assert set(before) == set(serving.KANS) and (after.name, after.version) == ("wide", 1)
    assert after.rows - before["wide"].rows == 7
    assert after.succeeded.count - before["wide"].succeeded.count == 1
    assert after.failed.count - before["wide"].failed.count == 1
    assert after.last is not None and after.last > 1.6e9 and 0 < after.computed.mean < 10
    assert Counted(0, 0.0).mean == 0.0


def test_prediction_intervals_are_served(tmp_path):
    kan = kanserve.from_formula("2*a + b", ranges={"a": (0, 1), "b": (0, 1)})
    x = np.random.default_rng(0).uniform(0, 1, (100, 2))
    unseen = x, 2 * x[:, 0] + x[:, 1] + np.linspace(-1, 1, 100)
    artifact = kanserve.compile(kan, ["numpy_source"], data=unseen)
    kanserve.publish(tmp_path, "law", artifact)
    uneven = kanserve.compile(kan, ["numpy_source"], data=(x, kan(x)[:, 0] * (1 + np.linspace(-1, 1, 100))))
    kanserve.publish(tmp_path, "uneven", uneven)
    kanserve.publish(tmp_path, "plain", kanserve.compile(kan, ["numpy_source"]))
    frame = pandas.DataFrame({"b": x[:3, 1], "a": x[:3, 0]})
    with start(tmp_path, port=0) as server, Client(server.address) as client:
        assert client.metadata("law").intervals == artifact.manifest.intervals
        low, high = client.predict_interval("law", x[:3], level=0.95)
        np.testing.assert_allclose(high - low, 2 * artifact.manifest.intervals[2].half_widths[0])
        np.testing.assert_allclose((low + high) / 2, client.predict("law", x[:3]))
        interval = uneven.manifest.intervals[1]
        assert interval.scales
        np.testing.assert_allclose(client.predict_interval("uneven", x), interval.around(kan(x)))
        tables = client.predict_interval("law", frame)
        assert [list(table.columns) for table in tables] == [["y"], ["y"]]
        np.testing.assert_allclose(tables[0].to_numpy(), client.predict_interval("law", x[:3])[0])
        with pytest.raises(NotFoundError, match="Version 1 of the model 'plain' has no prediction interval"):
            client.predict_interval("plain", x)

        async def ask() -> Any:
            async with AsyncClient(server.address) as one:
                return await one.predict_interval("law", x[:3], level=0.8)

        expected = artifact.manifest.intervals[0].around(kan(x[:3]))
        np.testing.assert_allclose(np.stack(asyncio.run(ask())), np.stack(expected))


def test_what_is_served_is_told(client):
    assert client.live() and client.ready() and client.ready("raw") and not client.ready("fox")
    told = client.metadata("iris")
    assert (told.name, told.version, told.versions) == ("iris", 1, (1,))
    assert (told.inputs, told.outputs) == (("x1", "x2"), ("setosa", "versi color", "virginica"))
    assert (told.classes, told.precision, told.backend) == (told.outputs, "double", "c_source")
    assert [(model.name, model.version, model.ready, model.reason) for model in client.models()] == [
        (name, 1, True, "") for name in sorted(serving.KANS)
    ]


def test_what_the_server_refuses_is_raised_as_the_error_that_it_had(client):
    with pytest.raises(NotFoundError, match="There is no model 'fox'"):
        client.predict("fox", [[1.0]])
    with pytest.raises(NotFoundError, match="no version 2 of 'raw'"):
        client.formula("raw", 2)
    with pytest.raises(InvalidNameError):
        client.network("raw", "first")
    with pytest.raises(TensorError, match=r"shape \[rows, 2\], got \[1, 3\]"):
        client.predict("raw", [[1.0, 2.0, 3.0]])
    with pytest.raises(TensorError, match="'probabilities'"):
        client.predict("raw", [[1.0, 2.0]], output="probabilities")
    with pytest.raises(InputError, match="points, got 9999"):
        client.network("raw", curve_points=9999)


def test_rows_that_are_none_are_not_sent(client):
    with pytest.raises(DataError, match=r"shape \(N, inputs\), got \(2,\)"):
        client.predict("raw", [1.0, 2.0])
    with pytest.raises(DataError, match="must be numbers"):
        client.differentiate("raw", [["a", "b"]])


@pytest.mark.slow
@pytest.mark.extended
def test_a_server_that_does_not_answer_is_said_with_its_address():
    with Client("127.0.0.1:1") as nobody:
        assert not nobody.live() and not nobody.ready() and not nobody.ready("raw")
        with pytest.raises(UnreachableError, match=r"No server answers at 127\.0\.0\.1:1"):
            nobody.predict("raw", [[1.0, 2.0]])


def test_an_address_of_version_6_is_said_as_people_write_it():
    with Client("[::1]:1", retries=0) as nobody, pytest.raises(UnreachableError) as failed:
        nobody.predict("raw", [[1.0, 2.0]])
    assert "%5B" not in str(failed.value) and "ipv6:" not in str(failed.value)


def test_a_call_that_takes_too_long_is_a_deadline():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with Client(address, timeout=0.2) as client, pytest.raises(DeadlineError, match=f"{address} .*0.2 seconds"):
            client.predict("raw", [[1.0, 2.0]])


def test_the_client_of_asyncio_has_the_same_calls_and_answers(server, client):
    x = sample(serving.kan("iris"), 4)

    async def ask() -> dict[str, Any]:
        made = AsyncClient(server.address)
        async with made as one:
            several = await asyncio.gather(*(one.predict("iris", x) for _ in range(10)))
            assert all(np.array_equal(several[0], answer) for answer in several)
            with pytest.raises(NotFoundError):
                await one.predict("fox", x)
            return {
                "predict": several[0],
                "infer": (await one.infer("iris", x)).labels,
                "formula": (await one.formula("iris"))[0].text,
                "network": (await one.network("iris")).inputs,
                "differentiate": (await one.differentiate("iris", x))[1],
                "hessian": (await one.differentiate("iris", x, hessian=True))[2],
                "metadata": await one.metadata("iris"),
                "models": await one.models(),
                "statistics": [statistic.name for statistic in await one.statistics()],
                "formats": (await one.formula("graph", formats=["julia"]))[0].functions,
                "float32": (await one.predict("iris", x, dtype=np.float32)).dtype,
                "live": await one.live(),
                "ready": await one.ready("iris"),
            }

    got = asyncio.run(ask())
    np.testing.assert_array_equal(got["predict"], client.predict("iris", x))
    np.testing.assert_array_equal(got["infer"], client.infer("iris", x).labels)
    np.testing.assert_array_equal(got["differentiate"], client.differentiate("iris", x)[1])
    np.testing.assert_array_equal(got["hessian"], client.differentiate("iris", x, hessian=True)[2])
    assert got["formula"] == client.formula("iris")[0].text
    assert got["network"] == client.network("iris").inputs
    assert (got["metadata"], got["models"]) == (client.metadata("iris"), client.models())
    assert got["live"] and got["ready"] and got["float32"] == np.float32
    assert got["statistics"] == [statistic.name for statistic in client.statistics()]
    assert got["formats"] == client.formula("graph", formats=["julia"])[0].functions


@pytest.mark.parametrize("module", ["kanserve.client", "kanserve.serve", "kanserve.serve.server"])
def test_without_grpc_the_extra_to_install_is_named(module):
    code = f"""
import sys
sys.modules["grpc"] = None
from kanserve.errors import MissingDependencyError
try:
    import {module}
except MissingDependencyError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "pip install 'kanserve[serve]'" in done.stdout, done.stderr
