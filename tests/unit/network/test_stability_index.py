"""The population stability index beside scipy's entropy, and that unchanged inputs hardly ever seem to drift."""

import numpy as np
import pytest
from scipy.stats import chi2, entropy

from kanserve.network.kan_checks import MOST_BINS
from kanserve.network.stability_index import _CHANCE, DRIFTED, stability_index

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bins", [2, 3, 10])
def test_the_index_is_the_relative_entropy_in_both_directions(bins):
    for _ in range(20):
        expected, counts = RNG.integers(1, 500, bins), RNG.integers(0, 500, bins)
        p, q = expected + 0.5, counts + 0.5
        psi, _ = stability_index(expected.tolist(), counts.tolist())
        assert psi == pytest.approx(entropy(p, q) + entropy(q, p), rel=1e-12)


def test_equal_shares_have_no_index_and_bins_that_are_empty_in_both_are_left_out():
    assert stability_index([100, 100], [30, 30]) == (0, 0)
    assert stability_index([100, 300, 0], [30, 10, 0]) == stability_index([100, 300], [30, 10])


@pytest.mark.parametrize(("expected", "counts"), [([], []), ([5, 0], [9, 0]), ([0, 0], [1, 2]), ([1, 2], [0, 0])])
def test_without_rows_or_two_bins_there_is_no_index(expected, counts):
    assert stability_index(expected, counts) == (0, 0)


def test_chance_is_scipys_quantile_of_chi_square():
    assert pytest.approx(chi2.isf(1e-6, np.arange(1, MOST_BINS + 1)), abs=0.005) == _CHANCE


@pytest.mark.parametrize("rows", [20, 100, 500, 2000])
def test_unchanged_inputs_do_not_drift_with_any_number_of_rows(rows):
    for _ in range(2000):
        training = RNG.multinomial(1000, np.full(10, 0.1))
        psi, above_chance = stability_index(training.tolist(), RNG.multinomial(rows, np.full(10, 0.1)).tolist())
        assert above_chance <= DRIFTED and psi >= 0


def test_half_a_standard_deviation_is_seen_in_a_window_of_the_server():
    edges = np.quantile(RNG.normal(size=5000), np.arange(1, 10) / 10)
    for _ in range(200):
        counts = np.bincount(np.searchsorted(edges, RNG.normal(0.5, 1, 1500)), minlength=10)
        assert stability_index([500] * 10, counts.tolist())[1] > DRIFTED
