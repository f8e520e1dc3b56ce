"""The server sees that inputs drift, says so in every place, and raises no alarm where they do not."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest

import kanserve as ks
from kanserve import repository
from kanserve.client import AsyncClient, Client
from kanserve.errors import NotFoundError, TensorError
from kanserve.network.stability_index import DRIFTED
from kanserve.network.training_bins import with_training_bins
from kanserve.serve.models.input_counts import BLOCKS, OUTSIDE, InputCounts
from kanserve.serve.observability import prometheus
from kanserve.serve.observability.metrics import measure_drift, merge
from kanserve.serve.rpc.range_violations import Bounds
from kanserve.serve.server import Server, start
from kanserve.serve.settings import Settings

INPUTS = 6
TRAINING = np.random.default_rng(1).normal(size=(3000, INPUTS))
RNG = np.random.default_rng(2)


def network() -> ks.Kan:
    law = " + ".join(f"x{i + 1}" for i in range(INPUTS))
    ranges = {f"x{i + 1}": (TRAINING[:, i].min(), TRAINING[:, i].max()) for i in range(INPUTS)}
    return with_training_bins(ks.from_formula(law, ranges=ranges), TRAINING)


@pytest.fixture(scope="module")
def repository_of_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    repository.publish(root, "sum", ks.compile(network(), ["c_source", "numpy_source"]))
    bare = replace(network(), inputs=tuple(ks.Variable(f"x{i}", low=-4, high=4) for i in range(INPUTS)))
    repository.publish(root, "bare", ks.compile(bare, ["numpy_source"]))
    return root


@pytest.fixture(params=["auto", "grpcio"])
def either_server(request, repository_of_one):
    with start(Settings(str(repository_of_one), port=0, transport=request.param)) as running:
        yield running


def drift(server: Server) -> list[ks.client.InputDrift]:
    with Client(server.address) as client:
        return list(client.drift("sum"))


def predict(server: Server, rows: np.ndarray, at_once: int = 1) -> None:
    with Client(server.address) as client:
        for start in range(0, len(rows), at_once):
            client.predict("sum", rows[start : start + at_once])


def counts() -> InputCounts:
    return InputCounts(network().inputs, Settings().drift_rows)


def bounds() -> Bounds:
    inputs = network().inputs
    pairs = [(variable.low, variable.high) for variable in inputs]
    low, high = np.array(pairs).T
    return Bounds(low, high, pairs)


def above_chance(counted: InputCounts) -> list[float]:
    rows, numbers = counted.total()
    inputs = network().inputs
    entry = {
        "features": [variable.name for variable in inputs],
        "expected": [list(variable.bin_counts) for variable in inputs],
        "rows": rows,
        "counts": numbers.tolist(),
    }
    return [found.psi_above_chance for found in measure_drift(entry)]


@pytest.mark.slow
def test_no_alarm_in_100_000_unshifted_requests_and_one_within_2_000_shifted_ones():
    counted, limits = counts(), bounds()
    for row in range(100_000):
        counted.add(RNG.normal(size=(1, INPUTS)), limits)
        if row % 1000 == 999:
            assert max(above_chance(counted)) <= DRIFTED
    for _ in range(2000):
        shifted = RNG.normal(size=(1, INPUTS))
        shifted[0, 2] += 0.5
        counted.add(shifted, limits)
    found = above_chance(counted)
    assert found[2] > DRIFTED and max(found[:2] + found[3:]) <= DRIFTED


def test_the_window_holds_the_latest_rows_in_four_blocks():
    counted, limits = counts(), bounds()
    sizes = []
    for _ in range(8000):
        counted.add(RNG.normal(size=(1, INPUTS)), limits)
        sizes.append(counted.total()[0])
    block = Settings().drift_rows // BLOCKS
    assert min(sizes[2000:]) > 3 * block - 1 and max(sizes) == 4 * block


def test_a_request_counts_for_one_of_its_rows_and_no_place_is_preferred():
    counted, limits = counts(), bounds()
    rows = np.tile([[-9.0], [0.0]], (1, INPUTS))
    for _ in range(100):
        counted.add(rows, limits)
    counted.add(rows[:0], limits)
    found, numbers = counted.total()
    assert found == 100 and numbers[:, OUTSIDE].tolist() == [50] * INPUTS


def test_no_rows_are_counted_where_the_setting_or_the_model_does_not_allow_it():
    for counted in (InputCounts(network().inputs, 0), InputCounts((ks.Variable("x"),), 2000)):
        counted.add(np.zeros((1, INPUTS)), bounds())
        assert not counted.block_rows and len(counted.loop_blocks) == 0


@pytest.mark.slow
def test_half_a_standard_deviation_in_one_input_is_told_by_the_client_metrics_and_the_command(either_server, kanserve):
    server = either_server
    predict(server, RNG.normal(size=(2000, INPUTS)))
    assert max(found.psi_above_chance for found in drift(server)) <= DRIFTED
    shifted = RNG.normal(size=(2000, INPUTS))
    shifted[:, 2] += 0.5
    predict(server, shifted)
    assert [found.name for found in drift(server) if found.drifted] == ["x3"]
    code, out, error = kanserve("drift", f"{server.address}/sum")
    assert code == 0 and "x3" in error and len(out.splitlines()) == 1 + INPUTS


def test_values_that_are_missing_infinite_or_outside_are_counted_in_every_type(either_server):
    odd = np.array([[np.nan, np.inf, -np.inf, 9.0, 0.0, 0.0], [0.0] * INPUTS], np.float64)
    for rows in (odd, odd.astype(np.float32)):
        predict(either_server, rows)
    assert [(found.rows, found.outside) for found in drift(either_server)] == [(4, 0.5)] * 4 + [(4, 0.0)] * 2


def test_both_transports_count_alike(repository_of_one):
    rows = RNG.normal(size=(300, INPUTS)) * 1.3
    found = []
    for transport in ("auto", "grpcio"):
        with start(Settings(str(repository_of_one), port=0, transport=transport)) as running:
            predict(running, rows)
            predict(running, rows[:64].astype(np.float32), at_once=64)
            found.append(drift(running))
    assert found[0] == found[1] and found[0][0].rows == 301


def test_rows_that_the_loop_hands_out_are_counted_once(tmp_path):
    repository.publish(tmp_path, "sum", ks.compile(network(), ["numpy_source"]))
    with start(Settings(str(tmp_path), port=0)) as running:
        predict(running, RNG.normal(size=(40, INPUTS)))
        predict(running, RNG.normal(size=(40, INPUTS)), at_once=20)
        assert drift(running)[0].rows == 42


def test_a_model_without_bins_has_no_drift(either_server, kanserve):
    with Client(either_server.address) as client:
        client.predict("bare", np.zeros((1, INPUTS)))
        assert client.drift("bare") == ()
    code, _, error = kanserve("drift", f"{either_server.address}/bare")
    assert code == 2 and "does not know its training rows" in error


def test_processes_add_up_their_counts(repository_of_one):
    with start(Settings(str(repository_of_one), port=0)) as running:
        predict(running, RNG.normal(size=(40, INPUTS)))
        snapshot = running.state.meters.snapshot()
    (together,) = [entry for entry in merge([snapshot, snapshot])["inputs"] if entry["of"][0] == "sum"]
    (alone,) = [entry for entry in snapshot["inputs"] if entry["of"][0] == "sum"]
    assert together["rows"] == 2 * alone["rows"] == 80 and together["expected"] == alone["expected"]
    assert np.array_equal(together["counts"], 2 * np.array(alone["counts"]))
    assert np.array(alone["counts"]).shape == (INPUTS, OUTSIDE + 1)


def feedback(server: Server, rows: list[list[float]], measured: list[list[float | None]], model: str = "line") -> Any:
    body = json.dumps({"rows": rows, "measured": measured}).encode()
    address = f"http://{server.http_address}/v2/models/{model}/feedback"
    try:
        with urlopen(Request(address, body, {"Content-Type": "application/json"})) as answer:
            return json.load(answer)
    except HTTPError as error:
        return json.load(error)["error"]


async def asked(address: str) -> dict[float, tuple[int, int]]:
    async with AsyncClient(address) as client:
        return await client.feedback("line", [[0.5]], [[0.5]])


def test_measured_values_are_compared_with_the_intervals_and_counted(tmp_path):
    rows = RNG.uniform(-1, 1, (200, 1))
    noisy = rows + RNG.normal(0, 0.1, rows.shape)
    line = ks.compile(ks.from_formula("x", ranges={"x": (-1, 1)}), ["numpy_source"], data=(rows, noisy))
    repository.publish(tmp_path, "line", line)
    repository.publish(tmp_path, "bare", ks.compile(ks.from_formula("x", ranges={"x": (-1, 1)}), ["numpy_source"]))
    with start(Settings(str(tmp_path), port=0, http_port=0)) as running:
        new = RNG.uniform(-1, 1, (1000, 1))
        said = feedback(running, new.tolist(), (new + RNG.normal(0, 0.1, new.shape)).tolist())
        for entry in said["coverage"]:  # four standard errors, of the rows here and of those of the interval
            assert entry["values"] == 1000 and entry["covered"] / 1000 == pytest.approx(entry["level"], abs=0.12)
        assert feedback(running, [[0.0], [0.5]], [[9.0], [None]])["coverage"][0] == {
            "level": 0.8,
            "values": 1,
            "covered": 0,
        }
        page = prometheus.text(running.state.meters.snapshot()).decode()
        assert 'kanserve_interval_values_total{level="0.8",model="line",version="1"} 1001.0' in page
        with Client(running.address) as client:
            table = pd.DataFrame({"x": [0.0, 0.5]})
            assert client.feedback("line", table, [[9.0], [np.nan]])[0.8] == (1, 0)
            assert asyncio.run(asked(running.address)) == client.feedback("line", [[0.5]], [[0.5]])
            with pytest.raises(NotFoundError, match="no prediction intervals"):
                client.feedback("bare", [[0.0]], [[0.0]])
            with pytest.raises(TensorError, match="measured must have shape"):
                client.feedback("line", [[0.0]], [0.0])
        assert "no prediction intervals" in feedback(running, [[0.0]], [[0.0]], "bare")
        assert "measured must have shape [1, 1]" in feedback(running, [[0.0]], [[0.0, 1.0]])
