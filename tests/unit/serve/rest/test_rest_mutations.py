"""Requests with something changed at random: each is answered, and none by an error of the server."""

import json
import random
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from kanserve.network.training_range import sample
from kanserve.serve.settings import Settings
from tests.support.faults import hostile_texts
from tests.support.servers import serving
from tests.support.servers.rest_port import TRANSPORTS, call, infer

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    2**31,
    2**63,
    2**64,
    10**30,
    1e308,
    "",
    "x",
    [],
    {},
    [[]],
    [[], 1],
    {"a": []},
    "\ud800",
]
TIMES = 150


@pytest.fixture(scope="module", params=TRANSPORTS)
def settings(request, repository):
    return Settings(str(repository), port=0, http_port=0, transport=request.param)


def places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every container in a value with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        places(value[key], found)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_changed_the_server_has_no_error(server, seed):
    rng = random.Random(seed)
    x = sample(serving.kan("iris"), 2, seed=0)
    names = [*hostile_texts.names(), "iris", "raw"]
    statuses = set()
    for _ in range(TIMES):
        body: Any = infer(
            x, id="7", parameters={"binary_data_output": False}, outputs=[{"name": "y", "parameters": {}}]
        )
        if rng.random() < 0.3:
            body["inputs"][0]["parameters"] = {"binary_data_size": 32}
        for _ in range(rng.randint(1, 2)):
            container, key = rng.choice(places(body, []))
            if isinstance(container, dict) and rng.random() < 0.3:
                container[rng.choice([*map(str, names), "data", "name", "parameters"])] = container.pop(key)
            else:
                container[key] = deepcopy(rng.choice(VALUES))
        data = json.dumps(body).encode()
        headers = {"Inference_Header_Content_Length": str(len(data) - rng.randint(-1, 1))} if rng.random() < 0.3 else {}
        if rng.random() < 0.3:
            cut = bytearray(data)
            cut[rng.randrange(len(cut))] = rng.randrange(256)
            data = bytes(cut)
        answer = call(server.http_address, "/v2/models/iris/infer", data + bytes(rng.choice((0, 32))), **headers)
        statuses.add(answer.status)
        assert answer.status in (200, 400, 404, 413), (answer, data)
        if answer.status != 200:
            assert answer.error
    assert {200, 400} <= statuses
    good = call(server.http_address, "/v2/models/iris/infer", infer(x))
    assert np.isfinite(good.json["outputs"][0]["data"]).all()
