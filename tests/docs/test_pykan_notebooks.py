"""docs/pykan-notebooks.md: each notebook of pykan is named, its lines here are ten at most, and all of them run."""

import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_allclose

import kanserve
from tests.support.paths import ROOT

pytestmark = pytest.mark.extended

PAGE = (ROOT / "docs" / "pykan-notebooks.md").read_text("utf-8")
MOST = 10  # lines, as the page's title promises

# The notebooks in the folder `tutorials` of pykan's repository (19 January 2025), and the two at its roots.
NOTEBOOKS = {
    "hellokan": ("hellokan.ipynb", "intro.ipynb"),
    "API": (
        *("API_10_device", "API_11_create_dataset", "API_1_indexing", "API_2_plotting", "API_3_extract_activations"),
        *("API_4_initialization", "API_5_grid", "API_6_training_hyperparameter", "API_7_pruning"),
        *("API_8_regularization", "API_9_video"),
    ),
    "Community": ("Community_1_physics_informed_kan", "Community_2_protein_sequence_classification"),
    "Example": (
        *("Example_10_relativity-addition", "Example_11_encouraing_linear", "Example_12_unsupervised_learning"),
        *("Example_13_phase_transition", "Example_14_knot_supervised", "Example_15_knot_unsupervised"),
        *("Example_1_function_fitting", "Example_3_deep_formula", "Example_4_classfication"),
        *("Example_5_special_functions", "Example_6_PDE_interpretation", "Example_7_PDE_accuracy"),
        *("Example_8_continual_learning", "Example_9_singularity"),
    ),
    "Interp": (
        *(
            "Interp_10A_swap",
            "Interp_10B_swap",
            "Interp_10_hessian",
            "Interp_11_sparse_init",
            "Interp_1_Hello, MultKAN",
        ),
        *("Interp_2_Advanced MultKAN", "Interp_3_KAN_Compiler", "Interp_4_feature_attribution"),
        *("Interp_5_test_symmetry", "Interp_6_test_symmetry_NN", "Interp_8_adding_auxillary_variables"),
        "Interp_9_different_plotting_metrics",
    ),
    "Physics": (
        *("Physics_1_Lagrangian", "Physics_2A_conservation_law", "Physics_2B_conservation_law_2D"),
        *("Physics_3_blackhole", "Physics_4A_constitutive_laws_P11", "Physics_4B_constitutive_laws_P12_with_prior"),
        "Physics_4C_constitutive_laws_P12_without_prior",
    ),
}


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("family", NOTEBOOKS)
def test_each_notebook_is_named_before_its_lines(family):
    sections = re.split(r"^```$", PAGE, flags=re.MULTILINE)
    for name in NOTEBOOKS[family]:
        mark = f"`{name}`" if family == "hellokan" else f"**{name}**"
        (section,) = [text for text in sections if mark in text]
        assert "```python" in section.partition(mark)[2] or family == "hellokan"


def test_no_other_notebook_is_named():
    known = {name for names in NOTEBOOKS.values() for name in names}
    assert set(re.findall(r"\*\*(\w+_[^*]+)\*\*", PAGE)) <= known


def test_no_block_has_more_than_ten_lines():
    for block in blocks():
        assert len([line for line in block.splitlines() if line.strip()]) <= MOST, block


@pytest.mark.slow
def test_every_block_runs_after_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    names: dict[str, Any] = {}
    for block in blocks():
        exec(compile(block, "pykan-notebooks.md", "exec"), names)
    x = names["x"]
    assert (tmp_path / "network.svg").stat().st_size > 1000
    assert kanserve.score(names["tuned"], names["data"]).r2[0] > 0.999
    assert kanserve.score(names["deep"], names["deep_data"]).r2[0] > 0.99
    assert_allclose(names["solution"](x)[:, 0], np.sin(np.pi * x).prod(axis=1), atol=0.02)
    assert_allclose(names["energy"](x)[:, 0], (x**2).sum(axis=1) / 2, atol=0.01)
    assert_allclose(names["flow"]([[1.5, 0.5]]), [[1, 0, 0.04]], atol=0.01)  # the flow of Poiseuille
    assert {names[search].status for search in ("waves", "norm", "found", "solid")} == {"exact"}
    assert names["found"].best.formula.text == "exp(J0(20*x1) + x2^2)"
    assert names["rapidity"].kan.formula().text.count("atanh") == 2
    assert names["related"].feature_importances_[3] < 0.05
    assert kanserve.score(names["tasks"], names["parity"]).r2 == pytest.approx([1] * 5)
    assert min(names["hessian"].shape) > 50


@pytest.mark.slow
def test_the_table_of_ten_lines_finds_the_law(capsys):
    matplotlib.use("agg")
    (table,) = re.findall(r"^\| pykan \| here \|\n\|---\|---\|\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    rows = [re.split(r" *\| *", row) for row in table.splitlines()]
    assert len(rows) == MOST and all(len(row) == 4 for row in rows)
    names: dict[str, Any] = {}
    for row in rows:
        if row[2]:
            exec(row[2].strip("`"), names)
    assert re.fullmatch(r"exp\(sin\(3\.141\d+\*x1\) \+ x2\^2\)\n", capsys.readouterr().out)
    assert kanserve.find_formulas(names["data"], max_fits=200).best.formula.text == "exp(sin(pi*x1) + x2^2)"
