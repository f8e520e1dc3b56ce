"""What a spline may be called: what is offered does what it says, and the right name is among the first."""

from dataclasses import replace

import numpy as np
import pytest

from kanserve.network.evaluate import evaluate
from kanserve.search.fit.candidates import offers
from kanserve.search.fit.training import judge, refine_network, split
from kanserve.search.trees.nodes import Curve, Sum, curves, is_symbolic, text
from kanserve.search.trees.to_network import network
from kanserve.simplification.edge_candidates import LIBRARY, Samples
from tests.support.networks.curve_names import name_of

Z = np.linspace(0.2, 1.9, 120)
WEIGHTS = 0.5 + Z / 2
FLOOR = 1e-9
LAWS = {
    "one function": lambda z: 3 * np.sin(2 * z + 0.3) - 1,
    "a power of a function": lambda z: 1 / np.sqrt(1 + 0.7 * z**2),
    "a power times a function": lambda z: z * np.exp(-1.3 * z),
    "a power times a function of a function": lambda z: z**3 / (np.exp(1.1 * z) - 1),
    "a function and a line": lambda z: np.exp(-2 * z) + 0.4 * z + 1,
    "a function and a steep line": lambda z: np.sin(3 * z) - 5 * z,
    "none of these": lambda z: np.where(z > 1, z - 1, 0.0),
}


def sampled(law):
    values = law(Z)
    return Samples(Z, values, WEIGHTS, float(Z[0]), float(Z[-1]), 0.0)


def error_of(curve, samples):
    given = evaluate(network(Sum((curve,)), 1).kan, samples.z[:, None])[:, 0]
    return float(np.sqrt(np.mean(samples.weights * (given - samples.values) ** 2)))


def layers_of(one):
    return len(network(Sum((one.curve,)), 1).kan.layers)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("setting", [{}, {"factor": True}, {"deep": True}], ids=str)
def test_each_offer_is_as_far_off_as_it_says(law, setting):
    samples = sampled(law)
    found = offers(Curve(0), samples, FLOOR, LIBRARY, **setting)
    assert found and [candidate.rank for candidate in found] == sorted(candidate.rank for candidate in found)
    for candidate in found:
        assert is_symbolic(Sum((candidate.curve,)))
        real = error_of(candidate.curve, samples)
        if layers_of(candidate) == 1:
            assert real == pytest.approx(candidate.error, rel=1e-4, abs=1e-9)
        elif real < 1e-2 * samples.values.std():  # a function of a function is judged to first order
            assert real == pytest.approx(candidate.error, rel=0.3, abs=1e-9), text(Sum((candidate.curve,)))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", [law for law in LAWS if "line" not in law and law != "none of these"])
def test_a_law_that_is_in_reach_is_what_a_fit_makes_of_one_of_the_first_offers(name):
    samples = sampled(LAWS[name])
    rows = split(Z[:, None], samples.values, 0)
    found = offers(Curve(0), samples, FLOOR, LIBRARY, deep=True)
    fits = [judge(refine_network(network(Sum((candidate.curve,)), 1), rows, 60), rows) for candidate in found[:5]]
    assert min(fit.error for fit in fits) < 1e-8


@pytest.mark.slow
def test_no_offer_comes_near_what_none_of_them_is():
    samples = sampled(LAWS["none of these"])
    assert all(
        offer.error > 1e-3 * samples.values.std() for offer in offers(Curve(0), samples, FLOOR, LIBRARY, deep=True)
    )


def test_of_a_factor_that_is_a_term_the_constant_is_the_other_terms():
    samples = sampled(lambda z: 2 * np.exp(z) - 3)
    kept = offers(Curve(0), samples, FLOOR, LIBRARY, factor=True)
    traded = offers(Curve(0), samples, FLOOR, LIBRARY, factor=True, traded=True)
    assert name_of(kept[0].curve).d == pytest.approx(-3) and not kept[0].curve.without_constant
    first = name_of(traded[0].curve)
    assert first.function == "exp" and first.d == 0 and traded[0].curve.without_constant
    assert first.c * np.exp(first.b) == pytest.approx(2)


def test_a_lone_factor_is_offered_what_has_no_constant():
    samples = sampled(lambda z: 4 * z**2)
    found = offers(Curve(0), samples, FLOOR, LIBRARY, factor=True)
    best = name_of(found[0].curve)
    assert (best.function, best.d, found[0].curve.without_constant) == ("x^2", 0.0, True)
    assert best.c * best.a**2 == pytest.approx(4) and best.b == 0


def test_names_that_were_not_asked_for_are_not_offered_for_the_curve_itself():
    found = offers(Curve(0), sampled(LAWS["one function"]), 1.0, ("x", "x^2", "exp"))
    assert {name_of(curve).function for found_curve in found for curve in curves(Sum((found_curve.curve,)))} <= {
        "x",
        "x^2",
        "exp",
    }


def test_points_of_no_weight_do_not_matter():
    samples = sampled(LAWS["one function"])
    spoiled = replace(
        samples,
        values=np.where(Z > 1.5, 7.0, samples.values),
        weights=np.where(Z > 1.5, 1e-30, samples.weights),
    )
    best = offers(Curve(0), spoiled, FLOOR, LIBRARY)[0]
    assert name_of(best.curve).function in ("sin", "cos") and best.error < 1e-5
