"""The record of the rows that a network was fitted to: who keeps it, how large it is, and what it recognises."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load

import kanserve
import kanserve.search
import kanserve.train
from kanserve.data.dataset import Dataset
from kanserve.errors import NetworkError
from kanserve.network import serialization
from kanserve.network.fitted_rows import hash_rows, record_rows, share_of_fitted_rows, smallest_hashes
from kanserve.network.kan_checks import MOST_FITTED_ROWS
from tests.support.networks.kans import mixed


def noisy(count, seed=0, columns=2):
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1, 1, (count, columns))
    return Dataset(x, np.sin(3 * x[:, 0]) + generator.normal(0, 0.3, count))


ROWS, NEW = noisy(40), noisy(40, seed=1)
FITTED = kanserve.fit([2, 1], ROWS, starts=1)


def session(kan):
    return kanserve.Session(kan, ROWS).zero("x2->y").kan


MADE = {
    "fit": lambda: FITTED,
    "fit with a validation set": lambda: kanserve.fit([2, 1], NEW, validation=ROWS, starts=1),
    "fit by LBFGS": lambda: kanserve.fit([2, 1], ROWS, optimizer="lbfgs", steps=5),
    "fit with clipped inputs": lambda: kanserve.fit([2, 1], ROWS, extrapolation="clip", starts=1),
    "refine": lambda: kanserve.train.refine(kanserve.create([2, 1]), ROWS.x, ROWS.y, steps=2),
    "prune": lambda: kanserve.prune(kanserve.create([2, 1], seed=0), ROWS),
    "symbolify": lambda: kanserve.symbolify(FITTED, NEW),
    "simplify": lambda: kanserve.simplify(FITTED, NEW),
    "discover": lambda: kanserve.discover(ROWS),
    "average": lambda: kanserve.average([kanserve.fit([2, 1], ROWS, starts=1, seed=1), FITTED]),
    "an edit of a session": lambda: session(kanserve.create([2, 1], seed=0)),
    "find_formulas": lambda: kanserve.find_formulas(ROWS, max_fits=20).best.kan,
    "KANRegressor": lambda: (
        kanserve.KANRegressor(hidden=(), n_networks=2, random_state=0).fit(ROWS.x, ROWS.y[:, 0]).kan_
    ),
    "a file": lambda: serialization.loads(serialization.dumps(FITTED)),
    "a pickle": lambda: pickle.loads(pickle.dumps(FITTED)),
    "an artifact": lambda: kanserve.compile(FITTED, ["numpy_source"]).kan(),
}


@pytest.mark.parametrize("way", MADE)
def test_a_network_knows_the_rows_that_it_was_fitted_to(way):
    kan = MADE[way]()
    assert (share_of_fitted_rows(kan, ROWS), share_of_fitted_rows(kan, noisy(40, seed=2))) == (1, 0)


def test_a_table_is_recognised_by_its_raw_values_with_categories_and_gaps():
    colours = np.random.default_rng(0).integers(0, 2, (60, 1)).astype(float)
    x = np.hstack([noisy(60).x, colours])
    x[::7, 0] = np.nan
    table = Dataset(x, noisy(60).y, categories={"x3": ("red", "blue")})
    kan = kanserve.fit([3, 1], table, starts=1)
    assert share_of_fitted_rows(kan, table) == share_of_fitted_rows(kanserve.simplify(kan, table), table) == 1
    swapped = np.where(np.arange(3) == 2, 1 - x, x)
    other_codes = Dataset(swapped, table.y, categories={"x3": ("blue", "red")})
    note = kanserve.compile(kan, ["numpy_source"], data=other_codes).manifest.provenance["intervals"]
    assert "fitted to all of these 60 rows" in note


def test_several_outputs_of_a_search_are_recognised_together():
    both = Dataset(ROWS.x, np.hstack([ROWS.y, NEW.y]))
    found = kanserve.find_formulas(both, max_fits=20)
    assert isinstance(found, kanserve.search.FindingsByOutput) and share_of_fitted_rows(found.kan, both) == 1


def row(*numbers):
    *x, y = numbers
    return Dataset(np.array([x]), np.array([y]))


def test_equal_numbers_give_equal_hashes():
    assert hash_rows(row(0.0, np.nan, 1.0)) == hash_rows(row(-0.0, -np.nan, 1.0))
    assert hash_rows(row(1.0, 2.0, -0.0)) == hash_rows(row(1.0, 2.0, 0.0))
    assert hash_rows(row(1.0, 2.0, 3.0)) != hash_rows(row(2.0, 1.0, 3.0))
    # Another number here means that files of earlier versions no longer recognise their rows.
    assert hash_rows(row(1.0, 2.0, 3.0)).tolist() == [9437219498724654922]


def test_the_share_of_rows_is_estimated_from_a_bounded_record():
    generator = np.random.default_rng(0)
    many = Dataset(generator.normal(size=(50_000, 2)), generator.normal(size=50_000))
    kan = record_rows(kanserve.create([2, 1]), smallest_hashes(hash_rows(many)))
    assert len(kan.fitted_rows) == MOST_FITTED_ROWS
    half = Dataset(np.vstack([many.x[:5000], 9 + many.x[:5000]]), np.vstack([many.y[:5000]] * 2))
    assert share_of_fitted_rows(kan, half) == pytest.approx(
        0.5, abs=0.06
    )  # 820 rows can be compared: 3 standard errors
    assert share_of_fitted_rows(kan, many) == 1
    assert (
        share_of_fitted_rows(kan, many.take(np.argsort(hash_rows(many))[-60:])) is None
    )  # none of these 60 can be compared


def test_a_network_without_a_record_cannot_tell():
    assert share_of_fitted_rows(kanserve.from_formula("x1 + x2"), ROWS) is None


def test_the_record_is_no_part_of_what_a_network_is_and_old_readers_pass_it_over():
    kan = mixed()
    known = replace(kan, fitted_rows=np.array([3, 5], np.uint64))
    assert kanserve.equal(kan, known)
    without, with_rows = serialization.dumps(kan), serialization.dumps(known)
    assert set(load(with_rows)) - set(load(without)) == {"fitted_rows"}
    assert serialization.dumps(serialization.loads(with_rows)) == with_rows
    assert serialization.dumps(replace(known, fitted_rows=kan.fitted_rows)) == without


@pytest.mark.parametrize("hashes", [[2, 1], [1, 1], [[1]], range(MOST_FITTED_ROWS + 1)])
def test_a_record_that_is_none_is_refused(hashes):
    with pytest.raises(NetworkError, match="fitted_rows"):
        replace(mixed(), fitted_rows=hashes)
