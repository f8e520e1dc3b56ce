"""Fits on tables: missing values and categories."""

import warnings
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow
import pytest

import kanserve
from kanserve.data import TableWarning
from kanserve.data.dataset import Dataset, dataset
from kanserve.data.table_files import read_rows, read_table
from kanserve.errors import DataError
from kanserve.network.encoding import encode
from kanserve.network.kan import equal
from kanserve.train import table_fit
from kanserve.train.target_means import first_encoding

FAST: dict[str, Any] = {"grid": (3, 5), "starts": 2, "steps": 20}
EFFECTS = {"red": 1.0, "green": -1.0, "blue": 0.2}


def _table(rows: int = 300, seed: int = 0) -> tuple[pandas.DataFrame, np.ndarray]:
    """Rows of colour·sin(3x) + z, in which a tenth of the colours and of z are missing, and the answers."""
    rng = np.random.default_rng(seed)
    colour, x, z = rng.choice(list(EFFECTS), rows), rng.uniform(-1, 1, rows), rng.uniform(-1, 1, rows)
    y = np.array([EFFECTS[name] for name in colour]) * (2 + np.sin(3 * x)) + z
    frame = pandas.DataFrame({"colour": colour.astype(object), "x": x, "z": z})
    frame.loc[rng.random(rows) < 0.1, "colour"] = None
    frame.loc[rng.random(rows) < 0.1, "z"] = np.nan
    return frame, y


@pytest.fixture(scope="module")
def fitted():
    frame, y = _table()
    return kanserve.fit([3, 4, 1], (frame, y), **FAST)


def test_a_fit_learns_a_number_for_each_category_and_for_what_is_missing(fitted):
    frame, y = _table()
    colour, x, z = fitted.inputs
    assert colour.categories == ("blue", "green", "red") and colour.fill_value is not None
    blue, green, red = colour.category_values
    assert min(green, red) < blue < max(green, red)
    assert (x.fill_value, x.categories) == (None, ()) and z.fill_value is not None and z.categories == ()
    assert (z.low, z.high) == (frame["z"].min(), frame["z"].max())
    whole = frame.notna().all(axis=1)
    assert kanserve.score(fitted, (frame[whole], y[whole])).r2[0] > 0.97
    assert kanserve.score(fitted, (frame, y)).r2[0] > 0.7


def test_an_unknown_category_gives_what_a_missing_one_gives(fitted):
    frame, _ = _table(5)
    frame["colour"] = ["purple", None, "red", "green", "blue"]
    frame["x"], frame["z"] = 0.5, 0.5
    codes = dataset((frame, np.zeros(5)), tables=True)
    assert codes.categories == {"colour": ("blue", "green", "purple", "red")}
    x = np.array([[3.0, 0.5, 0.5], [np.nan, 0.5, 0.5], [2.0, 0.5, 0.5]])
    y = fitted(x)[:, 0]
    assert y[0] == y[1] != y[2] and np.isfinite(y).all()


@pytest.mark.extended
def test_the_data_decide_everything_else(fitted):
    frame, y = _table()
    assert equal(kanserve.fit([3, 4, 1], (frame, y), **FAST), fitted)
    order = np.random.default_rng(1).permutation(3)
    moved = pandas.DataFrame({name: frame[name] for name in np.array(frame.columns)[order]})
    assert [one.name for one in kanserve.fit([3, 2, 1], (moved, y), **FAST).inputs] == list(moved.columns)


def test_codes_with_the_categories_beside_them_are_a_table_too(fitted):
    frame, y = _table()
    codes = frame["colour"].map({"blue": 0.0, "green": 1.0, "red": 2.0})
    x = np.column_stack([codes.to_numpy(float), frame["x"], frame["z"]])
    data = Dataset(x, y, ("colour", "x", "z"), categories={"colour": ("blue", "green", "red")})
    assert equal(kanserve.fit([3, 4, 1], data, **FAST), fitted)
    other = Dataset(x[:, :1], y, ("colour",), categories={"colour": ("green", "blue", "red")})
    assert other.take(np.arange(5)).categories == other.categories


@pytest.mark.extended
def test_a_network_keeps_its_categories_when_it_is_simplified_and_when_its_structure_is_fitted_again(fitted):
    frame, y = _table()
    pruned = kanserve.prune(fitted, (frame, y))
    assert pruned.inputs == fitted.inputs and pruned.edges <= fitted.edges
    assert kanserve.score(pruned, (frame, y)).r2[0] > kanserve.score(fitted, (frame, y)).r2[0] - 0.05
    x = dataset((frame, y), tables=True).x
    again = kanserve.fit(fitted, (x, y), **FAST)
    assert again.inputs[0].categories == fitted.inputs[0].categories


def test_categories_of_other_rows_follow_the_network(fitted):
    frame, y = _table(seed=3)
    few = frame["colour"].isin(["red", "green"])
    mixed = frame.replace({"colour": {"blue": "purple"}})
    assert kanserve.score(fitted, (frame[few], y[few])).r2[0] > 0.8
    codes = encode(fitted, np.array([[0.0, 0, 0], [3.0, 0, 0]]))
    assert codes[0, 0] == fitted.inputs[0].category_values[0] and codes[1, 0] == fitted.inputs[0].fill_value
    with pytest.warns(TableWarning, match="'purple' is not a category"):
        assert np.isfinite(kanserve.score(fitted, (mixed, y)).r2[0])


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("loss", ["huber", "quantile", "poisson"])
def test_every_loss_takes_tables(loss):
    frame, y = _table()
    y = np.exp(y / 2) if loss == "poisson" else y
    kan = kanserve.fit([3, 2, 1], (frame, y), loss=loss, **FAST)
    assert kan.inputs[0].categories and kanserve.score(kan, (frame, y)).r2[0] > 0.5


@pytest.mark.slow
@pytest.mark.extended
def test_a_classifier_of_three_classes_takes_tables():
    frame, y = _table()
    labels = np.array(["low", "middle", "high"])[np.digitize(y, [-1.0, 1.0])]
    kan = kanserve.fit([3, 3, 3], (frame, labels), **FAST)
    accuracy = kanserve.score(kan, (frame, labels)).accuracy
    assert accuracy is not None and accuracy > 0.8


def test_validation_rows_have_the_codes_of_the_training_rows():
    frame, y = _table()
    held, held_y = _table(100, seed=1)
    held = held[held["colour"] != "blue"]
    kan = kanserve.fit([3, 2, 1], (frame, y), validation=(held, held_y[held.index]), **FAST)
    assert kanserve.score(kan, (frame, y)).r2[0] > 0.6


def test_few_rows_take_the_first_numbers():
    frame, y = _table(8)
    kan = kanserve.fit([3, 1], (frame, y), grid=3)
    assert kan.inputs[0].categories and np.isfinite(kan(dataset((frame, y), tables=True).x)).all()


def test_rare_categories_are_shrunk_towards_the_mean_of_all_rows():
    rng = np.random.default_rng(0)
    group = np.r_[np.zeros(100), np.ones(100), [2.0]]
    y = np.where(group == 1, 1.0, 0.0) + rng.normal(0, 1, 201)
    y[-1] = 100.0
    data = Dataset(group[:, None], y, ("g",), categories={"g": ("a", "b", "c")})
    (one,) = first_encoding(data, np.array([False]), ranks=True)
    spread = one.category_values[1] - one.category_values[0]
    assert spread > 0 and one.category_values[2] < one.category_values[1] + 2 * spread
    assert one.fill_value is not None and one.category_values[0] < one.fill_value < one.category_values[1]


def test_a_missing_number_is_put_where_answers_are_alike_or_beyond_the_range():
    x = np.linspace(0, 1, 400)
    for answer, low, high in ((0.5, 0.4, 0.6), (-9.0, -0.3, -0.1), (9.0, 1.1, 1.3)):
        data = Dataset(np.r_[x, [np.nan] * 40][:, None], np.r_[x, [answer] * 40])
        (one,) = first_encoding(data, np.array([True]), ranks=False)
        assert one.fill_value is not None and low <= one.fill_value <= high


@pytest.mark.parametrize(
    ("x", "categories", "match"),
    [
        ([[np.nan]] * 40, {}, "missing in all 40 rows"),
        (np.arange(40.0)[:, None], {"x1": [f"row {n}" for n in range(40)]}, "40 categories in 40 rows, like a name"),
        (
            np.arange(40.0)[:, None],
            {"x1": ["unknown", *(f"{n} km" for n in range(39))]},
            "make it numbers: most are, as '0 km', but 'unknown' is none",
        ),
    ],
)
def test_an_input_that_says_nothing_about_other_rows_is_refused(x, categories, match):
    with pytest.raises(DataError, match=match):
        kanserve.fit([1, 1], Dataset(x, np.arange(40.0), categories=categories))


def test_missing_answers_infinities_and_codes_that_are_none_are_refused():
    with pytest.raises(DataError, match="output 'y' is nan in row 2"):
        kanserve.fit([1, 1], ([[0.0], [1.0]], [0.0, np.nan]))
    with pytest.raises(DataError, match="input 'x1' is inf in row 2"):
        kanserve.fit([1, 1], ([[0.0], [np.inf]], [0.0, 1.0]))
    with pytest.raises(DataError, match=r"needs categories that differ, and their codes; row 2 is 0\.5"):
        Dataset(np.array([[0.0], [0.5]]), np.arange(2.0), categories={"x1": ("a", "b")})
    with pytest.raises(DataError, match="which is not an input"):
        Dataset(np.array([[0.0], [1.0]]), np.arange(2.0), categories={"a": ("a", "b")})


def test_where_only_numbers_are_taken_a_table_is_refused(fitted):
    frame, y = _table()
    for take in (kanserve.find_formulas, kanserve.discover):
        with pytest.raises(DataError, match="'colour' has categories; numbers are needed here"):
            take((frame, y))
        with pytest.raises(DataError, match="input 'x1' is nan"):
            take(([[0.0], [np.nan]], [0.0, 1.0]))


FRAMES = {
    "pandas category": lambda x, c: pandas.DataFrame({"x": x, "c": pandas.Categorical(c, ["q", "p", "r"])}),
    "pandas text": lambda x, c: pandas.DataFrame({"x": x, "c": pandas.Series(c, dtype="str")}),
    "pandas objects": lambda x, c: pandas.DataFrame({"x": x, "c": pandas.Series(c, dtype=object)}),
    "polars text": lambda x, c: polars.DataFrame({"x": x, "c": c}),
    "polars Categorical": lambda x, c: polars.DataFrame({"x": x, "c": polars.Series(c, dtype=polars.Categorical)}),
    "polars Enum": lambda x, c: polars.DataFrame({"x": x, "c": polars.Series(c, dtype=polars.Enum(["q", "p", "r"]))}),
    "pyarrow text": lambda x, c: pyarrow.table({"x": x, "c": c}),
    "pyarrow dictionary": lambda x, c: pyarrow.table({"x": x, "c": pyarrow.array(c).dictionary_encode()}),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_columns_of_text_and_of_categories_become_codes(kind):
    frame = FRAMES[kind]([1.0, None, 3.0, 4.0], ["p", "q", None, "p"])
    data = dataset((frame, np.zeros(4)), tables=True)
    ordered = kind in ("pandas category", "polars Enum")  # types that list their categories
    assert data.categories == {"c": ("q", "p", "r") if ordered else ("p", "q")}
    wanted = [1, 0, np.nan, 1] if ordered else [0, 1, np.nan, 0]
    np.testing.assert_array_equal(data.x, np.column_stack([[1, np.nan, 3, 4], wanted]))


def test_truth_values_and_nullable_numbers_are_numbers():
    frame = pandas.DataFrame(
        {
            "b": [True, False, True],
            "n": pandas.Series([1, None, 3], dtype="Int64"),
            "t": pandas.Series([True, None, False], dtype="boolean"),
        }
    )
    data = dataset((frame, np.zeros(3)), tables=True)
    assert data.categories == {}
    np.testing.assert_array_equal(data.x, [[1, 1, 1], [0, np.nan, np.nan], [1, 3, 0]])


def test_text_of_which_some_is_a_number_is_no_category():
    frame = pandas.DataFrame({"c": ["1", "2", "three"]})
    with pytest.raises(DataError, match="'c' must be numbers, or categories; row 3 is 'three'"):
        dataset((frame, np.zeros(3)), tables=True)


def test_a_file_has_categories_and_missing_values(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("c,x,y\nred,1,2\nblue,,3\n,2,4\nred,1,2\n")
    data = read_table(path, "y")
    assert data.categories == {"c": ("blue", "red")}
    np.testing.assert_array_equal(data.x, [[1, 1], [0, np.nan], [np.nan, 2], [1, 1]])
    with pytest.warns(TableWarning, match="'blue' is not a category"):
        other = read_rows(path, ["x", "c"], categories={"c": ("green", "red")})
    np.testing.assert_array_equal(other, [[1, 1], [np.nan, 2], [2, np.nan], [1, 1]])


def test_warnings_come_from_the_last_fit_alone():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(60, 1)), rng.normal(size=60)
    x[::7] = np.nan
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        kanserve.fit([1, 3, 1], (x, y), **FAST)
    assert len(told) <= 1


def test_categories_that_are_numbers_are_known_by_their_names_without_their_type():
    ages = np.random.default_rng(0).choice([30, 40, 50], 120)
    typed = pandas.DataFrame({"age": pandas.Categorical(ages), "y": np.where(ages == 40, 2.0, ages / 50)})
    kan = kanserve.fit([1, 1], typed, target="y", starts=1)
    plain = typed.assign(age=ages)
    assert kanserve.score(kan, plain, target="y") == kanserve.score(kan, typed, target="y")
    assert equal(kanserve.prune(kan, plain, target="y"), kanserve.prune(kan, typed, target="y"))


@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")
def test_more_numbers_of_categories_than_rows_are_not_searched(monkeypatch):
    generator = np.random.default_rng(0)
    monkeypatch.setattr(table_fit, "improve", lambda *given: pytest.fail("they were searched"))
    codes = generator.integers(0, 4, (40, 12)).astype(float)
    data = Dataset(codes, generator.normal(size=40), categories={f"x{n + 1}": tuple("abcd") for n in range(12)})
    kan = kanserve.fit([12, 1], data, starts=1, grid=3)
    assert len(set(kan.inputs[0].category_values)) == 4
