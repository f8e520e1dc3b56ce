"""What speaks for a formula: on its way from data through the artifact and the server to the client."""

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest

import kanserve
from kanserve import repository
from kanserve.artifact.format import Artifact, Entry, assemble
from kanserve.artifact_compiler import compile, golden_rows
from kanserve.client import Client
from kanserve.data.dataset import Dataset
from kanserve.errors import FormatError, InputError
from kanserve.formula import formulas
from kanserve.formula import to_json as formulas_to_json
from kanserve.formula.constants.recognition import Constant, constants_of
from kanserve.formula.constants.uncertainty_report import (
    MOST_ALTERNATIVES,
    Alternative,
    Evidence,
    evidence,
    from_json,
    to_json,
)
from kanserve.network.kan import Kan
from kanserve.serve.models import loader
from kanserve.serve.rpc.formula_service import get_formula
from kanserve.serve.server import start
from kanserve.serve.state import ServerState
from kanserve.v1 import formula_pb2 as pb
from tests.support.networks.kans import classifier, mixed
from tests.support.networks.zoo_formulas import Found
from tests.support.servers import server_states

A, B = 1.23456789012, 0.765432109876
RANGES = {"x": (0.0, 2.0)}
LAW = kanserve.from_formula("3*exp(-a*x) + b", a=A, b=B, ranges=RANGES)
(FORMULA,) = formulas(LAW)


CANDIDATES = [
    Found(formulas(kanserve.from_formula("2 - x", ranges=RANGES))[0], 2.0, 0.3, 0.31),
    Found(formulas(replace(mixed(), outputs=LAW.outputs))[0], 3.5, 0.1, math.nan),
    Found(FORMULA, 6.0, 0.05, 0.06),
]


def noisy(count: int = 200, noise: float = 0.05) -> Dataset:
    x = np.linspace(0, 2, count)[:, None]
    y = 3 * np.exp(-A * x[:, 0]) + B
    return Dataset(x, y + noise * np.random.default_rng(0).normal(size=count), ("x",))


def made(kan: Kan = LAW, **options) -> Artifact:
    return compile(kan, ("numpy_source",), **options)


def test_constants_have_standard_errors_and_those_with_a_name_are_not_counted_as_estimates():
    data = noisy()
    found = evidence(FORMULA, data.x, data.y[:, 0])
    known = {constant.value: constant for constant in found.constants}
    assert known[3.0].text == "3"
    for value in (-A, B, 3.0):
        assert 0.001 < known[value].standard_error < 0.1
    assert found.sigma == pytest.approx(0.05, rel=0.15) and found.degrees == 200 - 2


def test_without_enough_rows_nothing_is_said_of_constants():
    assert evidence(FORMULA) == Evidence()
    data = noisy().take(np.arange(2))
    got = evidence(FORMULA, data.x, data.y[:, 0], CANDIDATES)
    assert (got.constants, got.sigma, got.degrees) == ((), None, None) and len(got.alternatives) == 3


def test_rows_where_the_formula_is_not_finite_and_splines_say_nothing_of_constants():
    logarithm = formulas(kanserve.from_formula("1.2345*log(x)", ranges={"x": (1.0, 2.0)}))[0]
    x = np.linspace(-1, 2, 50)[:, None]
    assert evidence(logarithm, x, x[:, 0]) == Evidence()
    spline = formulas(mixed())[0]
    assert evidence(spline, np.zeros((50, 2)), np.zeros(50)) == Evidence()


def test_what_is_written_is_what_is_read():
    data = noisy()
    one = evidence(FORMULA, data.x, data.y[:, 0], CANDIDATES)
    assert one.alternatives[1].validation_rmse is None and not one.alternatives[1].formula.closed_form
    undetermined = replace(one, constants=(*one.constants, Constant(2.5, math.inf, "2.5")))
    for evident in (one, undetermined, Evidence()):
        assert from_json(json.loads(json.dumps(to_json(evident), allow_nan=False))) == evident


def test_an_artifact_has_evidence_beside_its_formulas_or_none():
    for plain in (made(), made(classifier(), data=_classes())):
        assert plain.evidence == []
    artifact = made(data=noisy(), candidates=CANDIDATES)
    assert artifact.formulas == made().formulas
    (entry,) = artifact.evidence
    assert [alternative.formula.text for alternative in from_json(entry).alternatives] == [
        candidate.formula.text for candidate in CANDIDATES
    ]


def _classes() -> Dataset:
    kan = classifier()
    x = np.random.default_rng(0).uniform(-1, 1, (20, len(kan.inputs)))
    return Dataset(x, np.eye(len(kan.classes))[np.arange(20) % len(kan.classes)], (), kan.classes, kan.classes)


def test_the_standard_errors_of_weighted_rows_count_by_their_weights():
    rows = replace(noisy(), weights=np.repeat([1.0, 3.0], 100))
    (entry,) = made(data=rows).evidence
    (plain,) = made(data=noisy()).evidence
    errors, unweighted = (
        [constant.standard_error for constant in from_json(item).constants] for item in (entry, plain)
    )
    assert errors == pytest.approx([c.standard_error for c in constants_of(FORMULA.tree, rows.x, rows.y, rows.weights)])
    assert errors[-1] != pytest.approx(unweighted[-1], rel=0.02)


def test_candidates_are_of_one_output():
    two = kanserve.from_formula({"u": "x", "v": "2*x"}, ranges=RANGES)
    with pytest.raises(InputError, match="one output; this network has 2"):
        made(two, candidates=CANDIDATES)


def test_candidates_are_those_of_the_network_that_is_compiled():
    for others in (CANDIDATES[:2], [CANDIDATES[1]]):
        with pytest.raises(InputError, match="None of the candidates"):
            made(candidates=others)
    for what in ("law", 7, [FORMULA], {"law": FORMULA}):
        with pytest.raises(InputError, match="what find_formulas gives"):
            made(candidates=what)


def test_an_artifact_of_a_kanserve_that_wrote_no_evidence_is_served(tmp_path):
    data = json.loads(made().files["formula.json"])
    del data["evidence"]
    repository.publish(tmp_path, "old", _with_formula(made(), json.dumps(data).encode()))
    model = loader.load(tmp_path).find("old")
    assert model.words.read() == ((FORMULA,), ())


def _with_formula(artifact: Artifact, data: bytes) -> Artifact:
    entry = Entry(hashlib.sha256(data).hexdigest(), len(data))
    files = {**artifact.files, "formula.json": data}
    return Artifact(replace(artifact.manifest, files={**artifact.manifest.files, "formula.json": entry}), files)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("evident")
    repository.publish(root, "law", made(data=noisy(), candidates=CANDIDATES))
    repository.publish(root, "plain", made())
    return root


def _answer(state: ServerState, name: str) -> pb.GetFormulaResponse:
    encoded = get_formula(state, pb.GetFormulaRequest(model_name=name), server_states.call())
    return pb.GetFormulaResponse.FromString(encoded.SerializeToString())


def test_a_server_tells_what_is_known_and_nothing_where_nothing_is(folder):
    with server_states.served(folder) as (state, _):
        (known,) = _answer(state, "law").outputs
        (plain,) = _answer(state, "plain").outputs
    wanted = evidence(FORMULA, noisy().x, noisy().y[:, 0], CANDIDATES)
    assert [(constant.value, constant.text, constant.standard_error) for constant in known.constants] == [
        (constant.value, constant.text, constant.standard_error) for constant in wanted.constants
    ]
    assert (known.residual_standard_deviation, known.degrees_of_freedom) == (wanted.sigma, wanted.degrees)
    assert [alternative.text for alternative in known.pareto] == [candidate.formula.text for candidate in CANDIDATES]
    assert [alternative.HasField("validation_rmse") for alternative in known.pareto] == [True, False, True]
    assert not plain.constants and not plain.pareto
    assert not plain.HasField("residual_standard_deviation") and not plain.HasField("degrees_of_freedom")


def test_a_client_evaluates_every_formula_of_the_list(folder):
    with start(folder, port=0) as server, Client(server.address) as client:
        (law,), (plain,) = client.formula("law"), client.formula("plain")
    x = np.random.default_rng(1).uniform(0, 1, (20, 2))
    for got, wanted in zip(law.pareto, CANDIDATES, strict=True):
        assert (got.text, got.latex, got.complexity) == (wanted.formula.text, wanted.formula.latex, wanted.complexity)
        expected = kanserve.formula.evaluate_tree(wanted.formula.tree, wanted.formula.tables, x)
        np.testing.assert_array_equal(got.evaluate(x), expected)
    assert law.pareto[1].validation_rmse is None and law.degrees == 198
    assert any(0 < constant.standard_error < 0.1 for constant in law.constants)
    assert (plain.constants, plain.sigma, plain.degrees, plain.pareto) == ((), None, None, ())


def test_a_formula_says_where_it_is_defined(tmp_path):
    open_ended = kanserve.from_formula("log(x)", ranges={"x": (-0.5, 1.0)})
    repository.publish(tmp_path, "log", made(open_ended))
    with server_states.served(tmp_path) as (state, _):
        (told,) = _answer(state, "log").outputs
    assert list(told.domain) == list(formulas(open_ended, strict=False)[0].domain) != []


GOOD = to_json(Evidence((Constant(1.5, 0.1, "1.5"),), 0.1, 8, (Alternative(FORMULA, 2.0, 0.3, 0.4),)))
HOSTILE = {
    "a text": lambda _: "evidence",
    "a number": lambda _: 7,
    "nothing": lambda _: None,
    "no constants": lambda one: {name: value for name, value in one.items() if name != "constants"},
    "constants that are no list": lambda one: one | {"constants": {"0": one["constants"][0]}},
    "a constant that is a number": lambda one: one | {"constants": [1.5]},
    "a value that is infinite": lambda one: one | {"constants": [one["constants"][0] | {"value": math.inf}]},
    "a value that is true": lambda one: one | {"constants": [one["constants"][0] | {"value": True}]},
    "a value that is a text": lambda one: one | {"constants": [one["constants"][0] | {"value": "1.5"}]},
    "a value beyond a double": lambda one: one | {"constants": [one["constants"][0] | {"value": 10**400}]},
    "a negative standard error": lambda one: one | {"constants": [one["constants"][0] | {"standard_error": -0.1}]},
    "a long text": lambda one: one | {"constants": [one["constants"][0] | {"text": "1" * 101}]},
    "a text that is none": lambda one: one | {"constants": [one["constants"][0] | {"text": 1.5}]},
    "a negative sigma": lambda one: one | {"sigma": -1.0},
    "a sigma that is no number": lambda one: one | {"sigma": math.nan},
    "half a degree": lambda one: one | {"degrees": 0.5},
    "no degree": lambda one: one | {"degrees": 0},
    "too many degrees": lambda one: one | {"degrees": 2**63},
    "too many alternatives": lambda one: one | {"alternatives": one["alternatives"] * (MOST_ALTERNATIVES + 1)},
    "an alternative without a formula": lambda one: one | {"alternatives": [{"complexity": 1.0, "rmse": 1.0}]},
    "an alternative of two formulas": lambda one: one | {"alternatives": [_twice(one["alternatives"][0])]},
    "an alternative that runs code": lambda one: one | {"alternatives": [_running(one["alternatives"][0])]},
    "an rmse that is infinite": lambda one: one | {"alternatives": [one["alternatives"][0] | {"rmse": math.inf}]},
}


def _twice(entry):
    return entry | {"formula": entry["formula"] | {"formulas": entry["formula"]["formulas"] * 2}}


def _running(entry):
    (formula,) = entry["formula"]["formulas"]
    return entry | {"formula": entry["formula"] | {"formulas": [formula | {"tree": [["call", "exec", 0]]}]}}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_evidence_is_refused(case):
    from_json(GOOD)
    with pytest.raises(FormatError):
        from_json(HOSTILE[case](GOOD))


def _with_evidence(entries):
    parts = {path: data for path, data in made().files.items() if path.startswith("numpy_source/")}
    written = formulas_to_json([FORMULA])
    return assemble(LAW, parts, formulas=written, golden=golden_rows(LAW), evidence=entries)


@pytest.mark.parametrize("entries", [{"a": 1}, "law", [GOOD, GOOD]], ids=["object", "text", "two"])
def test_a_server_does_not_load_evidence_that_is_none(tmp_path, entries):
    repository.publish(tmp_path, "law", _with_evidence(entries))
    catalog = loader.load(tmp_path)
    assert "evidence" in catalog.reasons["law", 1] and not catalog.models.get("law")


def test_a_version_whose_evidence_says_nothing_sensible_is_not_served_and_says_why(tmp_path):
    repository.publish(tmp_path, "law", _with_evidence([{"constants": 1}]))
    with server_states.served(tmp_path) as (state, _):
        assert not state.catalog.models and "evidence for a formula" in state.catalog.reasons["law", 1]
