"""Names of categories in REST's rows, in place of their codes."""

from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve import repository as models
from kanserve.network.evaluate import evaluate
from kanserve.serve.settings import Settings
from tests.support.servers.rest_port import TRANSPORTS, call, output

COLOURS = ("blue", "green", "red")
CODES = np.array([[2.0, 1.0], [0.5, 0.0], [0.25, np.nan]])
ROWS: list[list[Any]] = [[2.0, "green"], [0.5, "blue"], [0.25, None]]


@pytest.fixture(scope="module")
def kan():
    generator = np.random.default_rng(0)
    x = np.column_stack([generator.uniform(0, 3, 300), generator.integers(0, 3, 300)])
    y = x[:, 0] + np.array([0.0, 2.0, 5.0])[x[:, 1].astype(int)]
    x[::9, 1] = np.nan
    data = kanserve.Dataset(x, y, inputs=("size", "colour"), categories={"colour": COLOURS})
    return kanserve.fit([2, 1], data, grid=3)


@pytest.fixture(scope="module")
def repository(tmp_path_factory, kan):
    root = tmp_path_factory.mktemp("models")
    models.publish(root, "dyes", kanserve.compile(kan, ["numpy_source"], name="dyes"))
    return root


@pytest.fixture(scope="module", params=TRANSPORTS)
def settings(request, repository):
    return Settings(str(repository), port=0, http_port=0, transport=request.param)


@pytest.fixture(scope="module")
def at(server):
    return server.http_address


def body(data, rows=3):
    return {"inputs": [{"name": "x", "datatype": "FP64", "shape": [rows, 2], "data": data}]}


@pytest.mark.parametrize("data", [ROWS, [value for row in ROWS for value in row]])
def test_a_name_stands_for_its_code(at, kan, data):
    answer = call(at, "/v2/models/dyes/infer", body(data))
    np.testing.assert_allclose(output(answer), evaluate(kan, CODES).ravel(), rtol=1e-12)


def test_derivatives_take_names_too(at):
    by_names, by_codes = (
        call(at, "/v2/models/dyes/gradient", {"rows": rows}) for rows in (ROWS, [[2.0, 1], [0.5, 0], [0.25, None]])
    )
    assert by_names.status == 200 and by_names.json == by_codes.json


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([2.0, "greem"], "row 2 has 'greem' for 'colour', whose categories are blue, green, red. Send one of them"),
        (["2.0", "green"], "row 2 has the string '2.0' for 'size', which is a number. Leave the quotes out"),
        ([2.0, True], "got a boolean"),
    ],
)
def test_another_text_is_refused_with_the_names(at, row, says):
    answer = call(at, "/v2/models/dyes/infer", body([[2.0, "red"], row], 2))
    assert answer.status == 400 and says in answer.error


def test_a_model_that_is_not_there_is_said_not_to_be(at):
    assert call(at, "/v2/models/none/infer", body(ROWS)).status == 404
