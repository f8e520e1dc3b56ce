"""Discovery: the smallest network that explains the data, found without a shape."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.cli import app
from kanserve.data.dataset import Dataset
from kanserve.errors import DataError
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import equal
from kanserve.simplification import SimplifyStep, discover
from kanserve.simplification.architectures import shapes
from kanserve.train import score

Array = NDArray[np.float64]


def _data(function: Callable[[Array], Array], inputs: int = 2, rows: int = 400, seed: int = 1) -> Dataset:
    x = np.random.default_rng(seed).uniform(-1, 1, (rows, inputs))
    return Dataset(x, function(x))


def _hello(x: Array) -> Array:
    return np.asarray(np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("function", "shape", "edges"),
    [
        (lambda x: np.sin(3 * x[:, 0]) + x[:, 1] ** 2, (2, 1), 2),
        (_hello, (2, 1, 1), 3),
        (lambda x: x[:, 0] * x[:, 1], (2, 2, 1), 6),
        (lambda x: np.stack([x[:, 0] ** 2, np.cos(2 * x[:, 1])], axis=1), (2, 2), 2),
    ],
)
def test_the_smallest_shape_is_found(function: Callable[[Array], Array], shape: tuple[int, ...], edges: int) -> None:
    found = discover(_data(function))
    assert found.shape == shape and found.edges == edges
    assert min(score(found, _data(function, seed=2)).r2) > 1 - 1e-5


@pytest.mark.slow
@pytest.mark.extended
def test_two_layers_are_found_where_one_does_not_do() -> None:
    def distance(x: Array) -> Array:
        return np.asarray(np.hypot(x[:, 0] - x[:, 1], x[:, 2] - x[:, 3]))

    found = discover(_data(distance, inputs=4, rows=1000))
    assert found.shape == (4, 2, 1, 1) and found.edges == 7
    assert score(found, _data(distance, inputs=4, seed=2)).r2[0] > 0.998


def test_inputs_that_say_nothing_keep_their_places_without_edges() -> None:
    data = _data(lambda x: np.exp(x[:, 1]) - x[:, 3], inputs=5)
    found = discover(data)
    assert found.layers[0].alive.any(axis=0).tolist() == [False, True, False, True, False]
    assert tuple(variable.name for variable in found.inputs) == data.inputs


def test_of_noisy_data_no_more_is_asked_than_they_tell() -> None:
    rng = np.random.default_rng(3)
    noisy = _data(lambda x: x[:, 0] ** 2 + x[:, 1] + 0.1 * rng.normal(size=len(x)), inputs=3)
    found = discover(noisy)
    assert found.shape == (3, 1) and found.edges == 2
    truth = noisy.x[:, 0] ** 2 + noisy.x[:, 1]
    assert np.sqrt(np.mean((evaluate(found, noisy.x)[:, 0] - truth) ** 2)) < 0.05  # half of the noise


@pytest.mark.slow
def test_answers_that_rows_do_not_explain_leave_a_constant() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.uniform(-1, 1, (200, 2)), rng.normal(size=200)
    found = discover((x, y))
    assert found.edges == 0
    np.testing.assert_allclose(evaluate(found, x[:5]), y.mean(), atol=0.2)


def test_a_tolerance_ends_the_search_at_the_first_shape_that_meets_it() -> None:
    data = _data(_hello)
    loose, strict = discover(data, tolerance=0.5), discover(data, tolerance=1e-3)
    assert loose.shape == (2, 1) and strict.shape == (2, 1, 1)
    assert score(loose, data).r2[0] > 0.7


@pytest.mark.slow
@pytest.mark.extended
def test_equal_arguments_give_equal_networks_and_every_step_can_be_gone_back_to() -> None:
    data, steps = _data(lambda x: x[:, 0] * x[:, 1]), list[SimplifyStep]()
    assert equal(discover(data, seed=7, progress=steps.append), discover(data, seed=7))
    tried = [step.stage for step in steps if step.stage.startswith("tried")]
    assert tried == ["tried [2, 1]", "tried [2, 1, 1]", "tried [2, 2, 1]"]
    for step in steps:
        assert step.kan.edges == step.edges and np.isfinite(evaluate(step.kan, data.x)).all()


@pytest.mark.slow
@pytest.mark.extended
def test_classes_are_told_apart_by_the_inputs_that_they_depend_on() -> None:
    pytest.importorskip("torch")
    x = np.random.default_rng(4).uniform(-1, 1, (300, 3))
    inside = x[:, 0] ** 2 + x[:, 1] ** 2 < 0.6
    data = Dataset(x, np.stack([inside, ~inside], axis=1).astype(float), classes=("in", "out"))
    found = discover(data)
    accuracy = score(found, data).accuracy
    assert found.classes == ("in", "out") and accuracy is not None and accuracy > 0.97
    assert found.layers[0].alive[:, :2].any(axis=0).all()


def test_the_command_line_finds_the_nodes_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _data(_hello)
    rows = np.column_stack([data.x, data.y])
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header="a,b,z", comments="")
    monkeypatch.chdir(tmp_path)
    command = ["kanserve", "fit", "rows.csv", "--target", "z", "--hidden", "fewest"]
    for more, code in ((["--json", "-q"], 0), (["--optimizer", "adam", "--force"], 2)):
        monkeypatch.setattr("sys.argv", [*command, *more])
        with pytest.raises(SystemExit) as stop:
            app.main()
        out, err = capsys.readouterr()
        assert (stop.value.code or 0) == code
        if code == 0:
            assert json.loads(out)["shape"] == [2, 1, 1] and err == ""
    assert "--optimizer" in err


def test_few_rows_are_enough_for_an_answer() -> None:
    found = discover((np.arange(6.0)[:, None], np.arange(6.0)))
    assert np.isfinite(evaluate(found, np.arange(6.0)[:, None])).all()


def test_a_tolerance_below_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="tolerance"):
        discover(_data(_hello), tolerance=-1.0)


def test_the_ladder_begins_with_no_hidden_layer_and_ends_with_two() -> None:
    found = shapes(4, 1)
    assert found[0] == (4, 1) and [len(widths) for widths in found] == sorted(len(widths) for widths in found)
    assert found[-1] == (4, 4, 2, 1)
