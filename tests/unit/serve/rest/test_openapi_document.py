"""The OpenAPI document: valid, with every path there is, and true of what the server answers."""

import json
import re
from typing import Any

import pytest

from kanserve.network.training_range import sample
from kanserve.serve.methods import ROUTES
from kanserve.serve.rest import openapi_document
from kanserve.serve.rest.messages import STATUSES
from kanserve.serve.settings import Settings
from tests.support.servers import serving
from tests.support.servers.rest_port import call, infer

DOCUMENT: dict[str, Any] = json.loads(openapi_document.text())
METHODS = ("get", "post", "put", "delete", "patch", "head", "options")


@pytest.fixture(scope="module")
def settings(repository):
    return Settings(str(repository), port=0, http_port=0, anonymous=("predict", "read", "manage"))


def test_the_document_is_valid():
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(DOCUMENT)


def test_every_path_is_in_it_and_nothing_else():
    said = {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item if method in METHODS}
    assert said == {(path, rest.verb) for path, (rest, _) in ROUTES.items()}


def test_every_path_says_its_parameters_and_every_reference_leads_somewhere():
    for path, item in DOCUMENT["paths"].items():
        assert {one["name"] for one in item.get("parameters", [])} == set(re.findall(r"\{(\w+)\}", path))
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert names == set(DOCUMENT["components"]["schemas"])


def test_statuses_of_calls_are_those_of_errors():
    said = {int(code) for code in DOCUMENT["paths"]["/v2/models/{model}/infer"]["post"]["responses"]}
    assert said == {*STATUSES.values(), 413, 415} - {499, 501}


@pytest.mark.parametrize(
    ("path", "template", "body"),
    [
        ("/v2", "/v2", None),
        ("/v2/health/live", "/v2/health/live", None),
        ("/v2/health/ready", "/v2/health/ready", None),
        ("/v2/models/iris", "/v2/models/{model}", None),
        ("/v2/models/iris/ready", "/v2/models/{model}/ready", None),
        ("/v2/models/iris/versions/1/config", "/v2/models/{model}/versions/{version}/config", None),
        ("/v2/models/stats", "/v2/models/stats", None),
        ("/v2/models/iris/formula", "/v2/models/{model}/formula", None),
        ("/v2/models/iris/infer", "/v2/models/{model}/infer", ...),
        ("/v2/models/iris/gradient", "/v2/models/{model}/gradient", {"rows": [[1e308, 0.2]]}),
        ("/v2/models/iris/explanation", "/v2/models/{model}/explanation", {"rows": [[1e308, 0.2]]}),
        ("/v2/repository/index", "/v2/repository/index", {}),
        ("/v2/repository/models/iris/load", "/v2/repository/models/{model}/load", {}),
        ("/openapi.json", "/openapi.json", None),
        ("/v2/models/fox", "/v2/models/{model}", None),
        ("/v2/models/iris/infer", "/v2/models/{model}/infer", {}),
    ],
)
def test_what_is_answered_is_as_the_document_says(server, path, template, body):
    jsonschema = pytest.importorskip("jsonschema")
    asked = infer(sample(serving.kan("iris"), 3, seed=0)) if body is ... else body
    answer = call(server.http_address, path, asked)
    operation = DOCUMENT["paths"][template]["get" if asked is None else "post"]
    content = operation["responses"][str(answer.status)]["content"][answer.headers["Content-Type"]]
    jsonschema.validate(answer.json, content["schema"] | {"components": DOCUMENT["components"]})
    if asked and answer.status == 200:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.validate(asked, schema | {"components": DOCUMENT["components"]})
