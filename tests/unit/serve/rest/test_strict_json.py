"""Bodies in JSON: any cut gives the same numbers, and no body takes more than some times its own memory."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from kanserve.errors import KanserveError
from kanserve.serve.rest import strict_json
from kanserve.serve.rest.strict_json import Body

NUMBERS = 200_000
LAYOUTS: list[dict[str, Any]] = [{"indent": 1}, {"separators": (",", ":")}]
MANY = {
    "digits": "1",
    "integers": "300",
    "numbers": "0.5",
    "rows of one": "[1]",
    "empty rows": "[]",
    "objects": "{}",
    "texts": '"a"',
}


@pytest.mark.parametrize("layout", [{}, *(pytest.param(more, marks=pytest.mark.extended) for more in LAYOUTS)])
@pytest.mark.parametrize("rows", [None, 1, 7])
def test_long_arrays_are_read_to_the_same_numbers(monkeypatch, layout, rows):
    x = np.random.default_rng(0).normal(size=7 * 3000) * 10.0 ** np.arange(-300, 300, 600 / 21_000)
    value = x.tolist() if rows is None else x.reshape(-1, rows).tolist()
    data = json.dumps({"a": value, "b": {"c": value}}, **layout).encode()
    for piece in (1, 100, 2**16):
        monkeypatch.setattr(strict_json, "_PIECE", piece)
        body = Body(data)
        for found in (body.fields["a"], body.fields["b"]["c"]):
            numbers, length = body.numbers(found, "a")
            assert numbers.tobytes() == x.tobytes() and length == rows


@pytest.mark.parametrize("case", MANY)
def test_the_memory_of_a_body_is_some_times_its_size(case):
    data = f'{{"data":[{",".join([MANY[case]] * NUMBERS)}]}}'.encode()
    tracemalloc.start()
    try:
        body = Body(data)
        body.numbers(body.fields["data"], "data")
    except KanserveError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10 * len(data) + 3_000_000  # 3 MB: of what is parsed at once
