"""What is checked of formulas when a model is loaded, without making any of them."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kanserve import formula, repository
from kanserve.artifact.format import Artifact, assemble
from kanserve.artifact_compiler import golden_rows
from kanserve.errors import FormatError
from kanserve.formula.expressions import storage
from kanserve.serve.models import lazy_formulas
from kanserve.serve.models.lazy_formulas import LazyFormulas
from tests.support import kans, serving
from tests.support.catalogs import loaded, publish, versions

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
    assert said.formulas == formula.from_json(serving.artifact(name).formulas)


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


def test_what_it_takes_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expressions of so many steps are looked at, and no more; 50,000 take a fifth of a second."""
    assert lazy_formulas.MOST_STEPS <= 50_000
    kan = kans.classifier()
    made = assemble(kan, {}, formulas=formula.to_json(formula.formulas(kan)), golden=golden_rows(kan))
    first, *others = (len(written["tree"]) for written in made.formulas["formulas"])
    assert others
    monkeypatch.setattr(lazy_formulas, "MOST_STEPS", first)
    steps = []
    check = storage.formula_from_json

    def counted(entry: Any, tables: Any) -> Any:
        steps.append(len(entry["tree"]))
        return check(entry, tables)

    monkeypatch.setattr(storage, "formula_from_json", counted)
    LazyFormulas(made, kan)
    assert steps == [first]
