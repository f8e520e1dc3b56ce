"""kanserve export: what its options write, what --check measures, and what is refused."""

import json
import sys

import numpy as np
import pytest

from kanserve import artifact_compiler, repository, runtime
from kanserve.cli.commands import export_check
from kanserve.errors import InputError
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan, make_layer
from kanserve.network.training_range import sample
from kanserve.runtime import c_backend, numpy_backend
from kanserve.runtime.backend import TwiceDifferentiating
from tests.support.networks.kans import ZOO, classifier, domains, mixed, symbolic

NOT_COMPARED = "c_source is not compared with the network"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Speeds measured in a moment: nothing here looks at how large they are."""
    monkeypatch.setattr(export_check, "_SECONDS", {1: 1e-3, 1024: 1e-3})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for kan in (symbolic, mixed, classifier, domains):
        serialization.save(kan(), tmp_path / f"{kan.__name__}.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(("name", "precision"), [("mixed", "double"), ("domains", "float"), ("classifier", "double")])
def test_check_measures_every_format_that_runs_here(name, precision, folder, kanserve):
    words = ("export", f"{name}.safetensors", "--check", "--json", "--precision", precision)
    code, out, err = kanserve(*words)
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert [row["format"] for row in answer["check"]] == ["onnx_graph", "c_source", "numpy_source"]
    for row in answer["check"]:
        assert row["bytes"] == sum(size for path, size in answer["files"].items() if path.startswith(row["format"]))
        assert row["agrees"] and row["mean error"] <= row["largest error"] <= row["allowed"] <= 1e-3  # next to a pole
        assert row["rows/s at 1"] > 0 and row["rows/s at 1024"] > 0 and row["rows"] > 400
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == []


def test_check_shows_a_table_and_writes_what_it_has_checked(folder, kanserve):
    code, out, _ = kanserve("export", "mixed.safetensors", "--check", "--formats", "numpy_source", "-o", "out")
    head, row = out.splitlines()
    assert code == 0 and head.split("\t")[:3] == ["format", "bytes", "largest error"]
    assert row.split("\t")[0] == "numpy_source" and row.split("\t")[5] == "yes"
    assert (folder / "out/numpy_source/model.py").exists()


@pytest.mark.slow
@pytest.mark.extended
def test_a_format_that_disagrees_ends_the_check_with_1_and_nothing_is_written(folder, kanserve, monkeypatch):
    load = numpy_backend.load

    def wrong(files, **options):
        backend = load(files, **options)
        monkeypatch.setattr(backend.module, "predict", lambda x: evaluate(mixed(), x) * (1 + 1e-10))
        return backend

    monkeypatch.setattr(numpy_backend, "load", wrong)
    code, out, err = kanserve("export", "mixed.safetensors", "--check", "--json", "-o", "out")
    rows = {row["format"]: row for row in json.loads(out)["check"]}
    assert (code, rows["numpy_source"]["agrees"], rows["c_source"]["agrees"]) == (1, False, True)
    assert 0.9e-10 < rows["numpy_source"]["largest error"] < 1.1e-10 and "disagrees" in rows["numpy_source"]["note"]
    assert "bug" in err and not (folder / "out").exists()


def test_a_number_where_the_network_has_none_is_a_disagreement():
    given = export_check.sample_of(domains(), "double")
    assert export_check.agreement(given, given.y).agrees
    got = given.y.copy()
    got[-1] = 0.0
    assert not export_check.agreement(given, got).agrees
    got = given.y.copy()
    got[np.flatnonzero(given.judged)[0]] = np.nan
    assert not export_check.agreement(given, got).agrees


def test_a_format_without_a_backend_has_its_size_and_the_reason(monkeypatch):
    files = {"c_source/model.c": b"123", "c_source/model.h": b"4", "rust/lib.rs": b"56789"}
    rows = export_check.check(mixed(), files, ["c_source", "rust"], "double")
    assert [(row["format"], row["bytes"], row["agrees"]) for row in rows] == [
        ("c_source", 4, None),
        ("rust", 5, None),
    ]
    assert "no library" in rows[0]["note"] and "no backend" in rows[1]["note"]


def test_rows_that_rounding_may_push_over_a_domains_end_are_not_judged():
    root = make_layer(functions=[["sqrt"]], affine=[[[1.0, 1.0, 1.0, 0.0]]])
    given = export_check.sample_of(Kan((root,)), "double")
    at_the_end = (given.x == -1).ravel()
    assert at_the_end.any() and not given.judged[at_the_end].any() and given.judged.sum() >= 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "there", "gone"), [("single_file", "law.c", "law.h"), ("header_only", "law.h", "law.c")]
)
def test_a_form_of_c_is_written_as_source_alone(form, there, gone, folder, kanserve):
    words = ("export", "mixed.safetensors", "--formats", "c_source,numpy_source", "--name", "law", "--c-form", form)
    code, _, err = kanserve(*words, "-o", "out")
    assert code == 0 and NOT_COMPARED in err and f'"{form}"' in err and err.count("\n") == 1
    paths = {path.name for path in (folder / "out/c_source").iterdir()}
    assert there in paths and gone not in paths and not any(path.endswith(".so") for path in paths)
    assert (folder / "out/numpy_source/law.py").exists()
    _, out, err = kanserve(*words, "--check", "--json")
    row = json.loads(out)["check"][0]
    assert row["agrees"] is None and "P.h and P.c" in row["note"]
    assert NOT_COMPARED in err and f'"{form}"' in err and err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.extended
def test_options_reach_their_exporters(folder, kanserve):
    onnx = pytest.importorskip("onnx")
    words = ("--opset", "17", "--ir-version", "8", "--gradient", "--formats", "c_source,onnx_graph")
    assert kanserve("export", "mixed.safetensors", "-o", "out", *words)[0] == 0
    (path,) = (folder / "out/onnx_graph").glob("*.onnx")
    model = onnx.load(path)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert "model_gradient" in (header := (folder / "out/c_source/model.h").read_text()) and "hessian" not in header
    assert kanserve("export", "mixed.safetensors", "-o", "second", "--hessian", "--formats", "c_source")[0] == 0
    header = (folder / "second/c_source/model.h").read_text()
    assert "model_gradient" in header and "model_hessian" in header


@pytest.mark.slow
@pytest.mark.extended
def test_an_artifact_is_compiled_with_options_whose_name_and_precision_may_be_replaced():
    options = ExportOptions("law", "float", gradient=True)
    made = artifact_compiler.compile(mixed(), ["c_source"], options=options)
    assert (made.manifest.name, made.manifest.precision) == ("law", "float")
    assert b"law_gradient" in made.part("c_source")["law.h"]
    other = artifact_compiler.compile(mixed(), ["numpy_source"], options=options, name="other", precision="double")
    assert (other.manifest.name, other.manifest.precision) == ("other", "double")
    x = sample(mixed(), 5)
    assert runtime.load_backend(other).predict(x).dtype == np.float64
    with pytest.raises(InputError, match=r'as "files", got "header_only".*--c-form'):
        artifact_compiler.compile(mixed(), options=ExportOptions(c_form="header_only"))
    with pytest.raises(InputError, match="c_source"):
        artifact_compiler.compile(mixed(), ["numpy_source"], processors=["aarch64-linux-gnu"])


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_without_a_compiler_one_line_says_which_was_looked_for_and_the_source_is_written(
    check, folder, kanserve, monkeypatch
):
    monkeypatch.setenv("CC", "nosuch")
    code, _, err = kanserve("export", "mixed.safetensors", "-o", "out", "--formats", "c_source,numpy_source", *check)
    assert code == 0 and err.count("\n") == 1 and NOT_COMPARED in err and "tried nosuch" in err
    assert not list(folder.glob("out/c_source/*.so")) and (folder / "out/c_source/model.c").exists()


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_without_onnxruntime_the_graph_is_written_and_one_line_says_that_it_was_not_run(
    check, folder, kanserve, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = kanserve("export", "mixed.safetensors", "-o", "out", "--formats", "onnx_graph,numpy_source", *check)
    assert code == 0 and err.count("\n") == 1 and (folder / "out/onnx_graph/model.onnx").exists()
    assert "onnx_graph is not compared with the network" in err and "onnxruntime" in err


def test_publishing_says_what_was_not_compared(folder, kanserve, monkeypatch):
    monkeypatch.setenv("CC", "nosuch")
    words = ("publish", "symbolic.safetensors", "models", "--name", "law", "--formats", "c_source,numpy_source")
    code, _, err = kanserve(*words)
    assert code == 0 and err.count("\n") == 1 and NOT_COMPARED in err and "tried nosuch" in err


@pytest.mark.slow
@pytest.mark.extended
def test_a_model_is_published_with_second_derivatives_if_they_are_asked_for(folder, kanserve):
    words = ("publish", "mixed.safetensors", "models", "--name", "law", "--formats")
    assert kanserve(*words, "c_source", "--hessian")[0] == 0 and kanserve(*words, "c_source")[0] == 0
    loaded = [runtime.load_backend(repository.read("models", "law", version)) for version in (1, 2)]
    assert [isinstance(one, TwiceDifferentiating) and one.differentiates_twice for one in loaded] == [True, False]
    code, _, err = kanserve(*words, "numpy_source", "--hessian")
    assert code == 2 and "--hessian is for c_source" in err
    assert repository.versions("models", "law") == (1, 2)


def test_a_compiler_that_fails_ends_the_export_with_what_to_do(folder, kanserve, monkeypatch):
    monkeypatch.setenv("CC", "false")
    code, out, err = kanserve("export", "mixed.safetensors", "-o", "out")
    assert (code, out) == (2, "") and "Set CC" in err and "--formats onnx_graph,numpy_source" in err
    assert not (folder / "out").exists()


def test_the_library_asked_for_by_a_target_is_kept_where_the_target_is_this_machine(monkeypatch):
    def build(files, compiler=None, *, target=None, vector_math=False):
        return {c_backend.library_name(): b"asked for" if target else b"own"}

    monkeypatch.setattr("kanserve.runtime.c_backend.build", build)
    files, _ = artifact_compiler.export_files(mixed(), ["c_source"], ExportOptions(), ["x86_64-linux-gnu"])
    assert files[f"c_source/{c_backend.library_name()}"] == b"asked for"


@pytest.mark.parametrize(
    "option, value, allowed",
    [
        ("precision", "half", "'float' or 'double'"),
        ("c_form", "zip", "'files' or 'single_file' or 'header_only'"),
        ("onnx_form", None, "'functions' or 'operators'"),
        ("name", 3, "str"),
        ("gradient", "yes", "bool"),
        ("vector_math", 1, "bool"),
        ("opset", 17.5, "int"),
        ("opset", True, "int"),
        ("ir_version", "9", "int"),
    ],
)
def test_options_that_nothing_can_have_are_refused_when_they_are_made(option, value, allowed):
    with pytest.raises(InputError, match=f"{option} .*{allowed}"):
        ExportOptions(**{option: value})


def test_libraries_for_targets_lie_beside_the_source(folder, kanserve, monkeypatch):
    built = []

    def build(files, compiler=None, *, target=None, vector_math=False):
        built.append((target, vector_math))
        return {f"{target}.so": b"library"} if target else {}

    monkeypatch.setattr("kanserve.runtime.c_backend.build", build)
    words = (
        "--processors",
        "aarch64-linux-gnu, riscv64-linux-musl",
        "--processors",
        "x86_64-linux-musl",
        "--vector-math",
    )
    code, _, _ = kanserve("export", "symbolic.safetensors", "-o", "out", "--formats", "c_source", *words)
    targets = ["aarch64-linux-gnu", "riscv64-linux-musl", "x86_64-linux-musl"]
    assert code == 0 and built == [*((target_name, False) for target_name in targets), (None, True)]
    assert all((folder / f"out/c_source/{target_name}.so").exists() for target_name in targets)


def test_a_law_goes_to_standard_output_or_to_a_file(folder, kanserve):
    code, out, _ = kanserve("export", "symbolic.safetensors", "--formula-only", "fortran", "--name", "law")
    assert code == 0 and "pure subroutine law(inputs, outputs)" in out
    words = ("export", "symbolic.safetensors", "--formula-only", "c", "-o", "law.c", "--precision", "float")
    assert kanserve(*words)[0] == 0 and "float outputs[1]" in (folder / "law.c").read_text()
    code, _, err = kanserve(*words)
    assert code == 2 and "--force" in err
    assert kanserve(*words, "--force")[0] == 0
    only = ("export", "symbolic.safetensors", "--formula-only")
    assert 'FROM "houses" AS samples;' in kanserve(*only, "postgresql", "--name", "houses")[1]
    assert kanserve(*only, "excel", "--cells", "y=C7")[1].startswith(
        "=LET(x,IF(ISNUMBER(A2),A2,NA()),y,IF(ISNUMBER(C7),C7,NA()),"
    )


BAD = {
    "nothing to do": (("mixed.safetensors",), "--out"),
    "an unknown form": (("mixed.safetensors", "-o", "out", "--c-form", "zip"), "header_only"),
    "a target without C": (
        ("mixed.safetensors", "-o", "out", "--formats", "numpy_source", "--processors", "aarch64-linux-gnu"),
        "c_source",
    ),
    "a target of a form": (
        ("mixed.safetensors", "-o", "out", "--c-form", "single_file", "--processors", "aarch64-linux-gnu"),
        "files",
    ),
    "an unknown target": (("mixed.safetensors", "-o", "out", "--processors", "pdp11"), "aarch64-linux-gnu"),
    "a law of splines": (("mixed.safetensors", "--formula-only", "c"), "c_source"),
    "a law in an unknown language": (("symbolic.safetensors", "--formula-only", "cobol"), "fortran"),
    "cells without a cell": (("symbolic.safetensors", "--formula-only", "excel", "--cells", "x"), "name=value"),
    "cells of no input": (("symbolic.safetensors", "--formula-only", "excel", "--cells", "z=A2"), "inputs are x, y"),
    "cells without Excel": (("symbolic.safetensors", "--formula-only", "sql", "--cells", "x=A2"), "Only a formula"),
    "cells of files": (("symbolic.safetensors", "-o", "out", "--cells", "x=A2"), "--formula-only excel"),
    "a law with formats": (("symbolic.safetensors", "--formula-only", "c", "--check"), "--formula-only"),
    "a law over its network": (
        ("symbolic.safetensors", "--formula-only", "c", "-f", "-o", "symbolic.safetensors"),
        "is an input",
    ),
    "a folder by force": (("mixed.safetensors", "-o", "out", "--force"), "--force"),
    "a version of ONNX without it": (
        ("mixed.safetensors", "-o", "out", "--formats", "numpy_source", "--opset", "3"),
        "--opset is for onnx_graph",
    ),
    "a form of C without it": (
        ("mixed.safetensors", "--check", "--formats", "numpy_source", "--c-form", "header_only"),
        "--c-form is for c_source",
    ),
    "a law with a path for a name": (("symbolic.safetensors", "--formula-only", "c", "--name", "../evil"), "name"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_exported_is_one_line_and_nothing_is_written(case, folder, kanserve):
    before = sorted(folder.rglob("*"))
    words, message = BAD[case]
    code, out, err = kanserve("export", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err and sorted(folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.extended
def test_the_whole_zoo_passes_its_check():
    for name, make in ZOO.items():
        kan = make()
        files, _ = artifact_compiler.export_files(kan, ["numpy_source"], ExportOptions())
        (row,) = export_check.check(kan, files, ["numpy_source"], "double")
        assert row["agrees"], (name, row)
