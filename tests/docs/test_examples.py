"""The examples, small: what they print is what they measured, and they say wins, losses and misses as such."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from examples import _mlp, anderson, continual, poisson

pytestmark = pytest.mark.usefixtures("torch_threads")


@pytest.mark.slow
@pytest.mark.extended
def test_each_equation_is_solved_and_all_who_tried_are_printed():
    _mlp.warm_up()
    for equation in poisson.equations(small=True):
        rows = poisson.compare(equation, [100])
        text = poisson.report(equation.name, rows)
        assert list(rows) == [equation.ours, *(f"{mlp} by {trainer}" for mlp, trainer in equation.peers)]
        assert rows[equation.ours][0].error < 1e-3
        assert rows[equation.ours][0].parameters == 3 * 3 * 14
        for who, (run,) in rows.items():
            assert np.isfinite(run.error)
            assert f"{who}  " in text
            assert f"{run.error:.1e}" in text


def test_the_equations_hold_for_their_solutions():
    for equation in (poisson.POISSON, *poisson.NONLINEAR):
        x = poisson.points(equation, 50, 0, seed=3)[0] * 0.9
        h = 1e-4
        u = equation.solution(x)
        ups, downs = ([equation.solution(x + sign * h * step) for step in np.eye(2)] for sign in (1, -1))
        first = [(up - down) / (2 * h) for up, down in zip(ups, downs, strict=True)]
        second = [(up - 2 * u + down) / h**2 for up, down in zip(ups, downs, strict=True)]
        assert np.allclose(equation.operator(u, first, second), equation.source(x), atol=1e-3)


def test_losses_and_misses_are_printed_as_such():
    good, bad = poisson.Result(1e-9, 1.0, 690), poisson.Result(1e-5, 1.0, 30701)
    paper = f"{poisson.PAPER} by LBFGS"
    text = poisson.report("u'' = f", {poisson.POISSON.ours: [bad], paper: [good]})
    assert "LOSS: 1e+04x more error than the best peer" in text
    assert text.count("MISSED") == 2
    text = poisson.report("u'' = f", {poisson.POISSON.ours: [good], paper: [bad]})
    assert "win: 1e+04x less error" in text
    assert text.count("met: ") == 2
    forgot = continual.Result((1e-6, 1.0, 1.0, 1.0, 1.0), 1.0, 1.0)
    text = continual.report({continual.BEST: forgot, "MLP by LM": forgot})
    assert "MISSED: RMSE on all peaks so far ≤ 1e-5" in text


@pytest.mark.slow
@pytest.mark.extended
def test_only_the_documented_setting_forgets_nothing():
    results = continual.study(small=True)
    assert max(results[continual.BEST].errors) <= 1e-5
    assert results[continual.BEST].between <= 1e-5
    for name, result in results.items():
        assert (result.errors[-1] >= 0.1) == (name != continual.BEST), name
    assert "met: RMSE on all peaks" in continual.report(results)


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_the_perceptrons_derivatives_are_those_of_torch(activation):
    mlp = _mlp.Mlp((2, 5, 4, 1), activation)
    vector = mlp.start(0)
    x = torch.rand(6, 2, dtype=torch.float64)
    _, first, second = mlp.jet(vector, x, 2)
    for n, row in enumerate(x):
        hessian = torch.autograd.functional.hessian(lambda r: mlp.jet(vector, r, 0)[0][0], row)
        slopes = torch.autograd.functional.jacobian(lambda r: mlp.jet(vector, r, 0)[0][0], row)
        for i in range(2):
            assert torch.isclose(first[i][n, 0], slopes[i], rtol=1e-10)
            assert torch.isclose(second[i][n, 0], hessian[i, i], rtol=1e-10, atol=1e-12)
    assert mlp.size == len(vector)


@pytest.mark.slow
@pytest.mark.extended
def test_both_trainers_of_perceptrons_descend():
    mlp = _mlp.Mlp((1, 6, 1), "tanh")
    x = np.linspace(-1, 1, 40)[:, None]
    problem = _mlp.regression(mlp, x, np.sin(3 * x))
    begin = mlp.start(1)
    for train in (_mlp.by_lbfgs, _mlp.by_levenberg):
        vector, seconds = train(begin, problem, 0.3)
        assert float(problem.of(vector)) < 0.1 * float(problem.of(begin))
        assert seconds > 0


@pytest.mark.slow
@pytest.mark.extended
def test_an_example_is_one_command_that_prints_a_table(capsys):
    continual.main(["--small"])
    printed = capsys.readouterr().out
    assert f"RMSE after peak{' ' * 8}1" in printed
    assert printed.count("met: ") == 2


@pytest.mark.extended
def test_the_mobility_edge_is_found_within_five_percent_and_a_miss_is_printed():
    results = anderson.study(anderson.SMALL)
    (found,) = results[anderson.LINES]
    assert found.edge is not None and found.others <= 0.05
    for name, wanted in anderson.THEORY.items():
        assert found.edge[name] == pytest.approx(wanted, rel=0.05, abs=0.05 * (wanted == 0))
    assert found.accuracy >= results["theory"][0].accuracy - 0.01
    assert anderson.report(anderson.SMALL, results, 1.0).count("met: ") == 3
    wrong = replace(found, accuracy=0.9, edge={**found.edge, "λ": 2.2})
    assert anderson.report(anderson.SMALL, results | {anderson.LINES: [wrong]}, 61.0).count("MISSED: ") == 3


def test_states_are_localised_by_strong_potentials_only():
    for strength, wanted in ((0.3, 0.0), (3.0, 1.0)):
        energies, localised = anderson.states(0.0, strength, 0.4, 233)
        # Without α the chain is Aubry and André's: all states change together, but those that cling to an end.
        assert len(energies) == 233 and abs(localised.mean() - wanted) < 0.03
