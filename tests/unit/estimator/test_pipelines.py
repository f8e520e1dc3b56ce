"""Pipelines as one network: the same predictions on missing values and unknown categories, in every exported format."""

from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

import kanserve
from kanserve.errors import InputError
from kanserve.estimator import KANClassifier, KANRegressor, export_pipeline, from_pipeline

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is not a category of the network:kanserve.data.TableWarning"),
    pytest.mark.filterwarnings("ignore:Found unknown categories"),  # of scikit-learn's encoder
    pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning"),  # some fits here are short
]
CLOSE = 1e-9  # of predictions of about 1: a scaler's shift is folded, which rounds once more
QUICK: dict[str, Any] = {"hidden": (2,), "grid": 3, "starts": 1, "steps": 10, "random_state": 0}


def table(rows: int = 200) -> pandas.DataFrame:
    generator = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "colour": generator.choice(["red", "green", "blue", "pink", "grey"], rows),
            "rooms": generator.choice([1, 2, 3], rows).astype(float),
            "size": generator.uniform(50, 150, rows),
            "age": generator.normal(40, 10, rows),
            "same": np.ones(rows),
        }
    )
    frame.loc[::9, "size"] = np.nan
    frame.loc[4::11, "colour"] = None
    return frame


def answers(frame: pandas.DataFrame) -> np.ndarray:
    colour = frame["colour"].map({"red": 1.0, "green": -1.0, "blue": 0.3}).fillna(0.0)
    found: np.ndarray = (colour * frame["size"].fillna(80) / 50 + np.sin(frame["age"] / 10) + frame["rooms"]).to_numpy()
    return found


def unseen() -> pandas.DataFrame:
    """Rows with other values, missing ones, and a colour that training has not."""
    frame = table(60).sample(frac=1, random_state=1).reset_index(drop=True)
    frame["age"] += 7.5
    frame.loc[::7, "colour"] = "violet"
    frame.loc[3::7, "size"] = np.nan
    return frame


def impute_and_encode(encoder: object) -> object:
    return make_column_transformer(
        (encoder, ["colour"]),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["rooms"]),
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["size"]),
        (make_pipeline(RobustScaler(), MinMaxScaler(feature_range=(-3, 5))), ["age"]),
    )


def one_hot(**options: object) -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False, **options)


ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
ENCODERS = {
    "one hot": make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), one_hot(drop=["?"])),
    "ordinal": ORDINAL,
    "scaled codes": make_pipeline(ORDINAL, StandardScaler()),
}


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("kind", ENCODERS)
def test_a_network_predicts_what_the_pipeline_does(kind):
    frame = table()
    pipeline = make_pipeline(impute_and_encode(ENCODERS[kind]), KANRegressor(**QUICK)).fit(frame, answers(frame))
    kan = from_pipeline(pipeline)
    assert [one.name for one in kan.inputs] == ["colour", "rooms", "size", "age"]
    for rows in (frame, unseen()):
        assert np.abs(kan(rows)[:, 0] - pipeline.predict(rows)).max() < CLOSE
    assert np.abs(kan(unseen()[["age", "size", "rooms", "colour"]])[:, 0] - pipeline.predict(unseen())).max() < CLOSE


@pytest.mark.slow
@pytest.mark.extended
def test_the_exported_files_predict_what_the_pipeline_does(tmp_path):
    frame = table()
    encoder = ENCODERS["one hot"]
    pipeline = make_pipeline(impute_and_encode(encoder), KANRegressor(**QUICK)).fit(frame, answers(frame))
    written = export_pipeline(pipeline, tmp_path / "model", ["numpy_source", "onnx_graph", "c_source"], name="house")
    assert {path.suffix for path in written} >= {".py", ".onnx", ".c"}
    kan = from_pipeline(pipeline)
    for backend in ("numpy_source", "onnx_graph", "c_source"):
        model = kanserve.LoadedModel(kanserve.compile(kan, [backend]), backend=backend)
        assert np.abs(model.predict(unseen())[:, 0] - pipeline.predict(unseen())).max() < CLOSE, backend


@pytest.mark.slow
def test_a_classifier_and_scaled_answers():
    frame = table()
    y = answers(frame)
    scaled = make_pipeline(impute_and_encode(ENCODERS["ordinal"]), KANClassifier(**QUICK))
    labels = np.where(y > np.median(y), "dear", "cheap")
    scaled.fit(frame, labels)
    assert (from_pipeline(scaled).predict(unseen()) == scaled.predict(unseen())).all()
    inner = make_pipeline(impute_and_encode(ENCODERS["ordinal"]), KANRegressor(**QUICK))
    both = TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(frame, y)
    kan = from_pipeline(both)
    assert np.abs(kan(unseen())[:, 0] - both.predict(unseen())).max() < CLOSE
    assert kan.outputs[0].low == pytest.approx(y.min()) and kan.outputs[0].high == pytest.approx(y.max())


@pytest.mark.slow
def test_unknown_categories_may_be_taken_as_missing_ones():
    frame = table()
    imputed = make_pipeline(SimpleImputer(strategy="most_frequent"), one_hot())
    pipeline = make_pipeline(impute_and_encode(imputed), KANRegressor(**QUICK)).fit(frame, answers(frame))
    with pytest.raises(InputError, match="encodes a missing value of 'colour' unlike an unknown one"):
        from_pipeline(pipeline)
    kan, rows = from_pipeline(pipeline, unknown="missing"), unseen()
    as_missing = rows.assign(colour=rows["colour"].where(rows["colour"] != "violet", None))
    assert np.abs(kan(rows)[:, 0] - pipeline.predict(as_missing)).max() < CLOSE


def test_scalers_of_arrays_and_selections_fold_exactly():
    x = np.random.default_rng(0).normal(1e4, 3.0, (100, 4))
    x[:, 2] = 7.0
    y = x[:, 0] - x[:, 1]
    pipeline = make_pipeline(
        VarianceThreshold(),
        ColumnTransformer([("own", StandardScaler(), slice(0, 2)), ("rest", "passthrough", [2])]),
        FunctionTransformer(),
        KANRegressor(hidden=(), grid=3, random_state=0),
    ).fit(x, y)
    kan = from_pipeline(pipeline)
    assert [one.name for one in kan.inputs] == ["x1", "x2", "x4"]
    assert np.abs(kan(x[:, [0, 1, 3]])[:, 0] - pipeline.predict(x)).max() < CLOSE
    assert kan.inputs[0].low == pytest.approx(x[:, 0].min()) and kan.inputs[0].high == pytest.approx(x[:, 0].max())


@pytest.mark.slow
def test_missing_values_and_categories_that_the_network_takes_itself():
    frame = table()
    pipeline = make_pipeline(
        make_column_transformer(
            (StandardScaler(), ["size", "age"]), ("passthrough", ["colour"]), verbose_feature_names_out=False
        ).set_output(transform="pandas"),
        KANRegressor(**QUICK),
    ).fit(frame.astype({"colour": "category"}), answers(frame))
    rows = unseen()
    rows["colour"] = rows["colour"].where(rows["colour"] != "violet", None)
    kan = from_pipeline(pipeline)
    assert np.abs(kan(rows)[:, 0] - pipeline.predict(rows.astype({"colour": "category"}))).max() < CLOSE
    assert [one.name for one in kan.inputs] == ["colour", "size", "age"]


@pytest.mark.parametrize(
    "step, message",
    [
        (PolynomialFeatures(), r"step 'polynomialfeatures' of the pipeline, PolynomialFeatures, cannot be made part"),
        (SimpleImputer(add_indicator=True), r"'simpleimputer' adds columns that say what is missing"),
        (MinMaxScaler(clip=True), r"'minmaxscaler' clips its columns"),
        (FunctionTransformer(np.log1p), r"'functiontransformer' is a function of the user's"),
    ],
)
def test_steps_that_cannot_be_part_of_a_network_are_named(step, message):
    x = np.random.default_rng(0).uniform(1, 2, (40, 2))
    pipeline = make_pipeline(step, KANRegressor(hidden=(), grid=3, steps=1)).fit(x, x[:, 0])
    with pytest.raises(InputError, match=message):
        from_pipeline(pipeline)


def test_what_one_input_cannot_hold_is_refused():
    frame = table()
    y = answers(frame)
    apart = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    quick = KANRegressor(hidden=(), grid=3, steps=1)
    pipeline = make_pipeline(make_column_transformer((apart, ["colour"])), quick).fit(frame, y)
    with pytest.raises(InputError, match="encodes a missing value of 'colour' unlike an unknown one"):
        from_pipeline(pipeline)
    twice = make_column_transformer((StandardScaler(), ["age"]), (MinMaxScaler(), ["age"]))
    with pytest.raises(InputError, match="column 'age' goes into the network 2 times"):
        from_pipeline(make_pipeline(twice, quick).fit(frame, y))
    with pytest.raises(InputError, match="Answers are transformed by FunctionTransformer"):
        from_pipeline(TransformedTargetRegressor(quick, func=np.log, inverse_func=np.exp).fit(frame[["age"]], y + 10))
    with pytest.raises(InputError, match="whose last step is a KANRegressor or KANClassifier"):
        from_pipeline(make_pipeline(StandardScaler()).fit(frame[["age"]]))
