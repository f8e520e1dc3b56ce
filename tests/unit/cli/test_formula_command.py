"""`kanserve formula`: of a network, of a published and of a served model, and of a table that is searched."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kanserve import from_formula, repository, search
from kanserve.artifact_compiler import compile as compile_kan
from kanserve.data.dataset import Dataset
from kanserve.formula import formulas
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate
from kanserve.serve.server import start
from tests.support.networks.kans import mixed
from tests.support.networks.zoo_formulas import Found

RANGES = {"m": (1.0, 2.0), "v": (-1.0, 1.0)}
LAW = from_formula("a*m*v + b", a=1.23456789012, b=0.765432109876, ranges=RANGES)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a law, rows with noise, and the law published with what is known of it."""
    folder = tmp_path_factory.mktemp("formula")
    generator = np.random.default_rng(0)
    x = np.column_stack([generator.uniform(1, 2, 200), generator.uniform(-1, 1, 200)])
    y = evaluate(LAW, x) + 0.05 * generator.normal(size=(200, 1))
    for name, answers in {"rows": y, "exact": evaluate(LAW, x)}.items():
        lines = ["m,v,y", *(",".join(map(repr, row)) for row in np.column_stack([x, answers]).tolist())]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    serialization.save(LAW, folder / "law.safetensors")
    serialization.save(mixed(), folder / "mixed.safetensors")
    simple = formulas(from_formula("m*v", ranges=RANGES))[0]
    candidates = [Found(simple, 2.0, 0.8, 0.81), Found(formulas(LAW)[0], 5.0, 0.05, 0.06)]
    data = Dataset(x, y, ("m", "v"))
    law = compile_kan(LAW, ("numpy_source",), data=data, candidates=candidates)
    repository.publish(folder / "models", "law", law)
    repository.publish(folder / "models", "plain", compile_kan(LAW, ("numpy_source",)))
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder(made, monkeypatch):
    monkeypatch.chdir(made)


def test_rows_tell_how_sure_the_constants_of_a_network_are(kanserve):
    code, out, _ = kanserve("formula", "law.safetensors", "--data", "rows.csv")
    assert code == 0 and out.startswith("y = 1.23457*m*v + 0.7654\n")
    assert out.count("±") == 2 and "198 degrees of freedom" in out
    assert kanserve("formula", "law.safetensors")[1] == "y = 1.23457*m*v + 0.7654\n"
    (told,) = json.loads(kanserve("formula", "law.safetensors", "--data", "rows.csv", "--as", "json")[1])
    assert {constant["value"] for constant in told["constants"]} == {1.23456789012, 0.765432109876}
    assert all(0 < constant["standard_error"] < 0.1 for constant in told["constants"])
    assert told["degrees_of_freedom"] == 198 and 0.04 < told["residual_standard_deviation"] < 0.06


def test_a_style_is_that_of_the_json_too(kanserve):
    (told,) = json.loads(kanserve("formula", "law.safetensors", "--as", "python", "--json")[1])
    assert told["formula"] == formulas(LAW)[0].python and told["closed_form"] is True


def test_the_list_of_a_published_model_is_that_of_its_server(kanserve):
    told = kanserve("formula", "models/law/1", "--pareto", "--json")[1]
    rows = json.loads(told)
    assert [row["complexity"] for row in rows] == [2.0, 5.0] and [row["error"] for row in rows] == [0.8, 0.05]
    assert rows[0]["formula"] == "y = m*v"
    shown = kanserve("formula", "models/law/1", "--pareto")[1]
    assert all(word in shown for word in ("complexity", "validation", "y = m*v"))
    with start("models", port=0) as server:
        assert kanserve("formula", f"{server.address}/law", "--pareto", "--json")[1] == told
        assert kanserve("formula", f"{server.address}/law/1")[1] == kanserve("formula", "models/law/1")[1]
        code, out, err = kanserve("formula", f"{server.address}/law", "--data", "rows.csv")
    assert (code, out) == (2, "") and "--data" in err


def test_a_formula_that_is_not_finite_in_its_range_is_refused_or_shown_with_its_conditions(kanserve, made):
    serialization.save(from_formula("log(x)", ranges={"x": (-0.5, 1.0)}), made / "log.safetensors")
    undefined = serialization.load(made / "log.safetensors")
    repository.publish(made / "models", "log", compile_kan(undefined, ("numpy_source",)))
    for source in ("log.safetensors", "models/log/1"):
        code, out, err = kanserve("formula", source, "--strict")
        assert (code, out) == (2, "") and "not finite" in err
        assert kanserve("formula", source) == (0, "y = log(x)\n  where log: x > 0\n", "")


def test_a_search_tells_where_its_formulas_are_defined(kanserve, monkeypatch):
    kan = from_formula("log(x)", ranges={"x": (-0.5, 1.0)})
    x = np.linspace(-0.5, 1, 20)[:, None]
    one = search.ScoredFormula(kan, 2.0, 0.1, 0.1, False, Dataset(x, x[:, 0]), 0.75)
    monkeypatch.setattr(search, "find_formulas", lambda *_, **__: search.Findings((one,), one))
    words = ("formula", "rows.csv", "--target", "y", "-q")
    assert kanserve(*words)[1] == "y = log(x)\n  where log: x > 0\n  finite on 75.0% of the rows\n"
    (told,) = json.loads(kanserve(*words, "--json")[1])["candidates"]
    assert told["where"] == ["log: x > 0"] and told["defined"] == 0.75
    shown = kanserve(*words, "--pareto")[1]
    assert all(word in shown for word in ("where", "log: x > 0", "defined", "0.75"))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("law.safetensors", "--pareto"), "has no alternative formulas"),
        (("models/plain/1", "--pareto"), "has no alternative formulas"),
        (("law.safetensors", "--pick", "1"), "are for a search"),
        (("law.safetensors", "--units", "m=kg"), "are for a search"),
        (("rows.csv",), "--target"),
        (("rows.csv", "--target", "y", "--pick", "1"), "--out"),
        (("rows.csv", "--target", "y", "--data", "rows.csv"), "the rows of its table"),
        (("rows.csv", "--target", "y", "--units", "kg"), "pairs name=value"),
        (("rows.csv", "--target", "y", "--out", "law.safetensors"), "there already"),
        (("none.csv", "--target", "y"), "does not exist"),
        (("none.safetensors",), "does not exist"),
        (("127.0.0.1:1/law",), "127.0.0.1:1"),
        (("nothing/at/all",), "host:port/name"),
        (("127.0.0.1:1/law", "--strict"), "shows its conditions"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_what_cannot_be_meant_is_said_in_one_line(kanserve, words, message):
    code, out, err = kanserve("formula", *words)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


@pytest.mark.slow
def test_a_table_is_searched_and_a_formula_of_the_list_becomes_a_network(kanserve, made):
    words = ("formula", "exact.csv", "--target", "y", "--max-fits", "1000", "-q")
    code, out, _ = kanserve(*words, "--pareto", "--pick", "1", "--out", "found.safetensors", "--json")
    listed, ended = (json.loads(out)[key] for key in ("candidates", "ended"))
    assert code == 0 and [entry["number"] for entry in listed] == list(range(1, len(listed) + 1))
    assert [entry["chosen"] for entry in listed] == [entry["number"] == 1 for entry in listed]
    assert ended == "settled" and listed[-1]["exact"] and listed[-1]["formula"] == "y = 1.23457*m*v + 0.7654"
    (written,) = formulas(serialization.load(made / "found.safetensors"))
    assert listed[0]["formula"] == f"y = {written.text}"
    assert kanserve(*words)[1] == listed[-1]["formula"] + "\n"
    code, out, err = kanserve(*words, "--pick", str(len(listed) + 1), "--out", "more.safetensors")
    assert (code, out) == (2, "") and f"from 1 to {len(listed)}" in err and not (made / "more.safetensors").exists()


def test_units_of_a_table_are_analysed_and_a_line_shows_how_far_the_search_is(kanserve, made):
    m, v = np.random.default_rng(0).uniform(0.5, 2, (2, 200))
    rows = np.column_stack([m, v, 0.5 * m * v**2])
    np.savetxt(made / "kinetic.csv", rows, delimiter=",", header="m,v,E", comments="")
    words = ("formula", "kinetic.csv", "--target", "E")
    code, out, err = kanserve(*words, "--pareto", "--units", "m=kg,v=m/s,E=J")
    lines = out.splitlines()
    assert code == 0 and "E = 0.5*m*v^2" in lines[-1] and "yes" in lines[-1] and len(lines) >= 3
    assert "s left" in err
    assert kanserve(*words, "-q", "--units", "m=kg,v=m/s,E=J") == (0, "E = 0.5*m*v^2\n", "")
    for units, message in (("m=kg,v=m/s", "lacks E"), ("m=kg,v=m,E=J", "no law can relate them")):
        code, out, err = kanserve(*words, "-q", "--units", units)
        assert (code, out) == (2, "") and message in err


def test_several_targets_have_a_formula_each_and_one_network(kanserve, made):
    m, v = np.random.default_rng(0).uniform(0.5, 2, (2, 100))
    rows = np.column_stack([m, v, m + v, 2 * m * v])
    np.savetxt(made / "several.csv", rows, delimiter=",", header="m,v,s,p", comments="")
    words = ("formula", "several.csv", "--target", "s", "--target", "p", "--max-fits", "100", "-q")
    assert kanserve(*words, "--out", "several.safetensors") == (0, "s = m + v\np = 2*m*v\n", "")
    network = serialization.load(made / "several.safetensors")
    assert [formula.text for formula in formulas(network)] == ["m + v", "2*m*v"]
    code, out, _ = kanserve(*words, "--json")
    found = json.loads(out)["outputs"]
    assert code == 0 and list(found) == ["s", "p"] and found["p"]["status"] == "exact"
    assert found["p"]["candidates"][-1]["formula"] == "p = 2*m*v"
    code, out, err = kanserve(*words, "--pick", "1", "--out", "picked.safetensors")
    assert (code, out) == (2, "") and "--pick is for one --target" in err


def test_a_choice_from_a_list_that_time_has_ended_says_that_it_may_differ(kanserve, monkeypatch):
    find = search.find_formulas
    words = ["formula", "exact.csv", "--target", "y", "--max-fits", "50", "-q", "--pick", "1", "--out"]
    assert "differ" not in kanserve(*words, "settled.safetensors")[2]
    monkeypatch.setattr(
        search, "find_formulas", lambda *rows, **options: replace(find(*rows, **options), ended="seconds")
    )
    assert "may differ from run to run; --max-fits" in kanserve(*words, "timed.safetensors")[2]
