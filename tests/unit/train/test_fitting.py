"""Fits: accurate on exact data, smooth on noisy data, finite on nasty data, the same for the same seed."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset, some
from kanserve.data.datasets import load_knots
from kanserve.errors import DataError
from kanserve.network.evaluate import evaluate, softmax
from kanserve.network.kan import equal
from kanserve.train import Progress, create, fit, score
from kanserve.train.constant_guard import no_worse_than_the_shares
from kanserve.train.lm import schedule_run
from kanserve.train.lm.schedule_candidates import Candidate, smoothest
from kanserve.train.normalising import normalise
from tests.support.networks.kans import symbolic
from tests.support.networks.training_rows import hello

Array = NDArray[np.float64]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("seed", [0, 1])
def test_the_first_example_is_learnt_to_a_part_in_ten_thousand(seed: int) -> None:
    kan = fit([2, 5, 1], hello(1000, seed), seed=seed)
    assert score(kan, hello(3000, 99)).rmse[0] < 5e-4


@pytest.mark.slow
def test_the_error_falls_with_the_fourth_power_of_the_grid() -> None:
    data, fresh = hello(3000, 0), hello(3000, 99)
    errors = [score(fit([2, 1, 1], data, grid=(3, 5, 10, 20, 50)[:n], noise_free=True), fresh).rmse[0] for n in (3, 5)]
    assert errors[0] < 4.7e-4 and errors[1] < 5e-6
    assert np.log(errors[1] / errors[0]) / np.log(5) < -3.5


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("seed", [0, 3])
def test_a_deep_network_is_exact_at_the_ends_of_its_hidden_ranges_too(seed: int) -> None:
    def squares(rows: int, of: int) -> Dataset:
        x = np.random.default_rng(of).uniform(-1, 1, (rows, 4))
        waves = np.sin(np.pi * (x[:, 0] ** 2 + x[:, 1] ** 2)) + np.sin(np.pi * (x[:, 2] ** 2 + x[:, 3] ** 2))
        return Dataset(x, np.exp(waves / 2))

    kan = fit([4, 4, 2, 1], squares(3000, 0), grid=20, validation=0.0, noise_free=True, seed=seed)
    new = squares(10_000, 1)
    assert score(kan, new).rmse[0] < 1e-5
    assert np.abs(evaluate(kan, new.x) - new.y).max() < 1e-3  # in the corners, where few rows are


def test_a_multiplication_node_learns_a_product() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    kan = fit([2, (0, 1), 1], (x, x[:, 0] * x[:, 1]))
    assert kan.layers[0].arity.tolist() == [2]
    assert score(kan, (x, x[:, 0] * x[:, 1])).rmse[0] < 1e-4


@pytest.mark.slow
def test_several_outputs_are_fitted_together() -> None:
    x, y = hello(600, 1)
    both = np.stack([y, 1e3 * np.cos(2 * x[:, 0]) - x[:, 1]], axis=1)
    kan = fit([2, 4, 2], Dataset(x, both, outputs=("a", "b")))
    assert min(score(kan, (x, both)).r2) > 1 - 1e-5
    assert [output.name for output in kan.outputs] == ["a", "b"]


@pytest.mark.slow
def test_noise_is_smoothed_and_not_learnt() -> None:
    x, y = hello(300, 0)
    noisy = y + 0.3 * y.std() * np.random.default_rng(1).normal(size=len(y))
    fresh = hello(3000, 99)
    chosen = score(fit([2, 5, 1], (x, noisy)), fresh).r2[0]
    believed = score(fit([2, 5, 1], (x, noisy), noise_free=True, validation=0), fresh).r2[0]
    assert chosen > 0.97 > believed


@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")
def test_pure_noise_is_answered_with_little_more_than_the_mean() -> None:
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(200, 4)), generator.normal(size=200)
    assert score(fit([4, 3, 1], (x, y)), (generator.normal(size=(500, 4)), generator.normal(size=500))).r2[0] > -0.2


@pytest.mark.slow
def test_the_signature_of_knots_is_learnt_in_seconds() -> None:
    learn, fresh = load_knots().split(0.25, 0)
    kan = fit([16, 1, 1], learn)
    assert score(kan, fresh).r2[0] > 0.85
    assert [variable.name for variable in kan.inputs] == list(learn.inputs)


def test_equal_fits_are_equal_bit_for_bit() -> None:
    data = hello(100, 2)
    one, two, other = (fit([2, 2, 1], data, starts=2, seed=seed) for seed in (5, 5, 6))
    assert equal(one, two)
    assert not equal(one, other)


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs", "adam"])
def test_a_row_of_weight_3_counts_as_three_rows(optimizer: Literal["lm", "lbfgs", "adam"]) -> None:
    x, y = hello(60, 0)
    y += np.random.default_rng(1).normal(0, 0.2, 60)
    counts = np.random.default_rng(2).integers(0, 4, 60)
    counts[0] = 0
    far = x.copy()
    far[counts == 0] = 1e3  # a row of weight 0 leaves no trace, not in the ranges either
    weighted = Dataset(far, np.where(counts == 0, 1e6, y), weights=counts.astype(np.float64))
    repeated = Dataset(np.repeat(x, counts, axis=0), np.repeat(y, counts))
    options: dict[str, Any] = {"validation": 0, "grid": (3, 4), "starts": 2, "steps": 10, "optimizer": optimizer}
    one, two = (fit([2, 2, 1], data, **options) for data in (weighted, repeated))
    assert (one.inputs, one.outputs) == (two.inputs, two.outputs)
    fresh = hello(200, 3)[0]
    np.testing.assert_allclose(evaluate(one, fresh), evaluate(two, fresh), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(score(one, weighted).r2, score(one, repeated).r2)
    np.testing.assert_allclose(score(one, weighted).rmse, score(one, repeated).rmse)


@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")
def test_held_out_rows_judge_by_their_weights() -> None:
    x, y = hello(200, 0)
    noisy = y + np.random.default_rng(1).normal(0, 0.3, 200)
    right = hello(100, 2)
    options: dict[str, Any] = {"grid": (3,), "starts": 2, "steps": 20}
    want = fit([2, 2, 1], (x, noisy), validation=Dataset(*right), **options)
    # Half of the held-out rows are wrong; of weight 0 they choose nothing.
    half = Dataset(np.tile(right[0], (2, 1)), np.append(right[1], right[1] + 5.0), weights=np.repeat([1.0, 0.0], 100))
    assert equal(fit([2, 2, 1], (x, noisy), validation=half, **options), want)
    assert not equal(fit([2, 2, 1], (x, noisy), validation=replace(half, weights=None), **options), want)


def _nasty(seed: int) -> tuple[Array, Array, list[int]]:
    """Few rows, constant and duplicate columns, duplicate rows, huge and tiny units, outliers, poles, constants."""
    generator = np.random.default_rng(seed)
    rows, columns = int(generator.integers(2, 80)), int(generator.integers(1, 5))
    x = generator.normal(size=(rows, columns))
    trouble = generator.random(6)
    if trouble[0] < 0.3:
        x[:, 0] = 3.0
    if trouble[1] < 0.3:
        x[:, -1] = x[:, 0]
    if trouble[2] < 0.3:
        x[rows // 2 :] = x[: rows - rows // 2]
    if trouble[3] < 0.3:
        x[0] *= 1e6
    a = x[:, -1]
    targets = (np.log(np.abs(a)), 1 / a, np.sign(a), generator.normal(size=rows), np.full(rows, 5e21), a**2, 0 * a)
    y = targets[int(generator.integers(len(targets)))]
    if trouble[4] < 0.3:
        x *= 10.0 ** generator.choice([-6, 6])
    if trouble[5] < 0.2:
        y = y * 10.0 ** generator.choice([-100, 6, 100])
    hidden = [int(generator.integers(1, 4)) for _ in range(int(generator.integers(0, 3)))]
    return x, y, [columns, *hidden, 1]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")
@pytest.mark.parametrize("seed", range(60))
def test_nasty_data_give_a_finite_network_no_worse_than_the_mean(seed: int) -> None:
    x, y, shape = _nasty(seed)
    exact = {"noise_free": True} if seed % 2 else {}
    grids = ((3, 5), (3, 20), (10,), (30,))[seed % 4]
    kan = fit(shape, (x, y), grid=grids, starts=2, steps=20, **exact)  # type: ignore[arg-type]  # one option
    outside = x + 1e3 * np.ptp(x, axis=0)
    assert np.isfinite(evaluate(kan, np.concatenate([x, outside]))).all()
    assert score(kan, (x, y)).r2[0] > -1e-9


def test_a_classifier_is_no_worse_than_the_shares_of_its_classes() -> None:
    x = np.linspace(-1, 1, 30)[:, None]
    data = Dataset(x, np.eye(3)[np.arange(30) % 2], classes=("a", "b", "c"))  # none is of class c
    plain = no_worse_than_the_shares(normalise(create([1, 3]), data), data)
    assert score(plain, data).loss == pytest.approx(np.log(2))
    assert np.ptp(evaluate(plain, 1e3 * x), axis=0).max() == 0
    good = replace(data, y=np.eye(3)[(x[:, 0] > 0).astype(int)])
    kan = fit([1, 3], good, optimizer="lbfgs", steps=20)
    assert equal(no_worse_than_the_shares(kan, good), kan)


@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")
def test_held_out_rows_are_learnt_from_at_last() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (60, 1))
    data = Dataset(x, np.eye(2)[(x[:, 0] > 0).astype(int)], classes=("low", "high"))
    out = some(60, 12, 0)
    wrong = data.y.copy()
    wrong[out] = wrong[out][:, ::-1]
    right, other = (fit([1, 2], replace(data, y=y), steps=5) for y in (data.y, wrong))
    shares = [softmax(evaluate(kan, x))[:, 1] for kan in (right, other)]
    assert np.abs(shares[0] - shares[1]).max() > 0.1


def test_choices_are_made_on_some_of_many_rows_and_the_last_steps_take_all(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = hello(2000, 0)
    noisy = y + 0.3 * np.random.default_rng(1).normal(size=2000)
    options: dict[str, Any] = {"grid": (3,), "starts": 2}
    slow = score(fit([2, 1, 1], (x, noisy), **options), hello(2000, 1)).rmse[0]
    monkeypatch.setattr(schedule_run, "ENOUGH_ROWS", 100)
    monkeypatch.setattr(schedule_run, "ENOUGH_EACH", 0)
    fast = score(fit([2, 1, 1], (x, noisy), **options), hello(2000, 1)).rmse[0]
    few = score(fit([2, 1, 1], (x[:100], noisy[:100]), **options), hello(2000, 1)).rmse[0]
    assert fast < 1.2 * slow < few


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("shape", "rows", "options", "method"),
    [
        ([2, 5, 1], 100, {}, "lm"),
        ([2, 60, 5, 1], 100, {}, "lbfgs"),
        ([2, 60, 5, 1], 60_000, {}, "adam"),
        ([2, 1], 100, {"l1": 0.1}, "adam"),
        ([2, 1], 100, {"entropy": 0.1}, "adam"),
    ],
)
def test_the_optimizer_is_chosen_by_size_and_loss(
    shape: list[int], rows: int, options: dict[str, float], method: str
) -> None:
    told: list[str] = []

    def stop(now: Progress) -> None:
        told.append(now.stage)
        raise KeyboardInterrupt

    fit(shape, hello(rows, 0), starts=1, steps=10, progress=stop, **options)  # type: ignore[arg-type]
    assert told[0].startswith({"lm": "start 1"}.get(method, method))


@pytest.mark.filterwarnings("ignore:Inputs that are the answers:kanserve.train.TrainingWarning")
def test_a_constant_answer_gives_a_constant_network() -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    kan = fit([2, 3, 2], (x, np.stack([np.full(30, 5e21), x[:, 0]], axis=1)), starts=2)
    assert (evaluate(kan, 10 * x)[:, 0] == 5e21).all()
    assert not kan.layers[-1].alive[0].any()
    assert score(kan, (x, evaluate(kan, x))).r2 == (1.0, 1.0)


def test_the_structure_of_a_network_is_kept_and_its_weights_are_not() -> None:
    template = create([2, 3, 1], order=2, base="identity")
    first = template.layers[0]
    coefficients, weights = first.coefficients.copy(), first.base_weight.copy()
    coefficients[1, 0], weights[1, 0] = 0, 0
    template = replace(
        template, layers=(replace(first, coefficients=coefficients, base_weight=weights), template.layers[1])
    )
    kan = fit(template, hello(200, 0), starts=2, grid=(4,))
    assert (kan.layers[0].order, kan.layers[0].base, kan.layers[0].intervals) == (2, "identity", 4)
    np.testing.assert_array_equal(kan.layers[0].alive, template.layers[0].alive)


def test_named_edges_are_fitted_as_they_are_named() -> None:
    x, y = hello(200, 0)
    kan = fit(symbolic(), (x, y), starts=1)
    assert kan.symbolic
    assert score(kan, (x, y)).rmse[0] < 1e-6


def test_rows_for_validation_are_only_judged_by() -> None:
    data = hello(150, 0)
    rows = Dataset(*hello(50, 1))
    one = fit([2, 2, 1], data, validation=rows, grid=(3,), starts=1)
    two = fit([2, 2, 1], data, validation=replace(rows, y=rows.y + 1e-9), grid=(3,), starts=1)
    assert equal(one, two)


def test_a_fit_prints_only_when_asked_and_reports(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[Progress] = []
    fit([2, 1, 1], hello(100, 0), starts=2, progress=told.append)
    assert capsys.readouterr() == ("", "")
    assert [event.stage for event in told][:3] == ["start 1 of 2", "start 2 of 2", "grid 3"]
    assert told[-1].stage == "all rows" and told[-1].error < 0.1
    fit([2, 1, 1], hello(100, 0), starts=2, progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and "grid 3" in shown.err


def test_the_smoother_of_two_equals_is_chosen() -> None:
    kan = symbolic()
    generator = np.random.default_rng(0)
    noise, shares = generator.uniform(0, 2, 200), np.full(200, 1 / 200)
    best = Candidate(kan, 0.0, noise, shares)
    as_good = Candidate(kan, 0.1, noise + generator.normal(0.001, 0.1, 200), shares)
    worse = Candidate(kan, 1.0, noise + 0.1, shares)
    assert smoothest([best, as_good, worse]) is as_good
    assert smoothest([best, worse, Candidate(kan, 2.0, np.full(200, np.inf), shares)]) is best


def test_classes_in_another_order_are_other_classes() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (40, 1))
    y = np.column_stack([x[:, 0] > 0, x[:, 0] <= 0]).astype(float)
    data, turned = (
        Dataset(x, answers, classes=names) for answers, names in ((y, ("up", "down")), (y[:, ::-1], ("down", "up")))
    )
    with pytest.raises(DataError, match="classes of the training data, up, down; got down, up"):
        fit([1, 2], data, validation=turned)
    with pytest.raises(DataError, match="classes are up, down, those of the data down, up"):
        score(replace(create([1, 2]), classes=("up", "down")), turned)


def test_multiplication_nodes_stand_behind_sum_nodes() -> None:
    kan = create([3, (2, 1), 1], arity=3, grid=4, order=2)
    assert kan.shape == (3, 3, 1)
    assert kan.layers[0].arity.tolist() == [1, 1, 3]
    assert kan.layers[0].coefficients.shape == (5, 3, 6)
    assert equal(create([2, 2, 1], seed=3), create([2, 2, 1], seed=3))
