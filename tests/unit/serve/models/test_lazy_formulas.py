"""What is checked of formulas when a model is loaded, without making any of them."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kanserve import formula, repository
from kanserve.artifact.format import Artifact, Entry, assemble
from kanserve.artifact.naming_rules import FORMULA
from kanserve.artifact_compiler import golden_rows
from kanserve.errors import FormatError, FormulaError
from kanserve.formula.from_network.stored_formulas import formulas_to_store
from kanserve.serve.models import catalog as models
from kanserve.serve.models.catalog import LazyFormulas
from tests.support.networks import sized_networks
from tests.support.servers import serving
from tests.support.servers.catalogs import loaded, publish, versions

Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> Artifact:
    """The artifact of a network whose formulas somebody has changed."""
    good = serving.artifact("mixed")
    said = copy.deepcopy(good.formulas)
    change(said)
    parts = {path: data for path, data in good.files.items() if "/" in path}
    return assemble(good.kan(), parts, formulas=said, golden=good.golden())


def step(new: list[Any], said: dict[str, Any]) -> None:
    said["formulas"][-1]["tree"][-1] = new


def set_to(key: str, value: Any, said: dict[str, Any]) -> None:
    said["formulas"][0][key] = value


BROKEN: dict[str, Change] = {
    "an operation that is none": partial(step, ["exec", 1]),
    "a step that comes later": partial(step, ["add", 0, 1_000]),
    "a function of another name": partial(step, ["call", "__import__", 0]),
    "a power that is too large": partial(step, ["pow", 0, 65]),
    "a power that is no integer": partial(step, ["pow", 0, 1.5]),
    "a number as an operation": partial(step, [1, 2, 3]),
    "no tree": lambda said: said["formulas"][0].pop("tree"),
    "an empty tree": partial(set_to, "tree", []),
    "a text as a tree": partial(set_to, "tree", "add"),
    "a variable that is not described": partial(set_to, "variables", []),
    "a wrong claim of a closed form": lambda said: set_to("closed_form", not said["formulas"][0]["closed_form"], said),
    "a text that is none": partial(set_to, "latex", None),
    "no table of a spline": lambda said: said["tables"].popitem(),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_formula_that_is_none_is_told_when_the_model_is_loaded(how: str) -> None:
    broken = changed(BROKEN[how])
    with pytest.raises(FormatError):
        formula.from_json(broken.formulas)  # which is what nobody may be told later
    with pytest.raises(FormatError):
        LazyFormulas(broken, serving.kan("mixed"))


@pytest.mark.parametrize("name", list(serving.KANS))
def test_what_is_right_is_loaded_and_read(name: str) -> None:
    said = LazyFormulas(serving.artifact(name), serving.kan(name))
    assert said.read()[0] == formula.from_json(serving.artifact(name).formulas)


def test_a_broken_formula_is_a_reason_of_the_version_and_the_old_one_goes_on(tmp_path: Path) -> None:
    publish(tmp_path)
    repository.publish(tmp_path, "fox", changed(BROKEN["an operation that is none"]))
    with loaded(tmp_path) as models:
        assert versions(models) == [1] and "tree is not allowed" in models.catalog.reasons["fox", 2]


def test_the_evidence_is_checked_too() -> None:
    good = serving.artifact("mixed")
    other = copy.deepcopy(good.formulas)
    step(["exec", 1], other)
    alternatives = [{"formula": other, "complexity": 1.0, "rmse": 1.0, "validation_rmse": None}]
    evidence = [{"constants": [], "sigma": None, "degrees": None, "alternatives": alternatives}] * len(
        other["formulas"]
    )
    parts = {path: data for path, data in good.files.items() if "/" in path}
    with pytest.raises(FormatError):
        made = assemble(good.kan(), parts, formulas=good.formulas, golden=good.golden(), evidence=evidence)
        LazyFormulas(made, good.kan())


def with_file(data: bytes) -> Artifact:
    good = serving.artifact("mixed")
    entry = Entry(hashlib.sha256(data).hexdigest(), len(data))
    return Artifact(
        replace(good.manifest, files={**good.manifest.files, FORMULA: entry}), {**good.files, FORMULA: data}
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not JSON"),
        (b"[]", "not kanserve formulas"),
        (b"{}", "not kanserve formulas"),
        (b'{"formulas": NaN}', "NaN"),
        (b'{"formulas": 1, "formulas": 1}', "twice"),
        (b'{"formulas": ' + b"[" * 100_000, "not JSON"),
    ],
)
def test_a_file_that_holds_no_formulas_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(FormatError, match=text):
        LazyFormulas(with_file(data), serving.kan("mixed"))


def test_a_file_that_is_too_large_is_not_looked_at() -> None:
    """Only older versions of kanserve wrote such files; their models are served, without their formulas."""
    said = LazyFormulas(with_file(b"[" * (models.MOST_BYTES + 1)), serving.kan("mixed"))
    with pytest.raises(FormulaError, match="too large to be read"):
        said.read()


def test_a_network_without_formulas_is_loaded_and_says_so() -> None:
    kan = sized_networks.splines(60, 20, 10)
    made = assemble(kan, {}, formulas=formula.to_json(formulas_to_store(kan)), golden=golden_rows(kan))
    with pytest.raises(FormulaError, match="The network has 1400 edges"):
        LazyFormulas(made, kan).read()
