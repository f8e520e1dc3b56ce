import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kanserve import KANRegressor, from_formula, repository
from kanserve.artifact_compiler import compile as compile_kan
from kanserve.data import read_table
from kanserve.network import serialization
from kanserve.network.evaluate import probabilities
from kanserve.network.fitted_rows import hash_rows, record_rows
from kanserve.network.kan import Kan, make_layer
from kanserve.serve.server import start
from kanserve.serve.transport import native_library
from tests.support.networks.kans import classifier, hostile_names, mixed, named_categories, symbolic

RNG = np.random.default_rng(0)


@pytest.mark.slow
def test_a_table_becomes_a_network_a_simpler_one_a_picture_and_a_formula(folder, kanserve):
    code, out, err = kanserve("fit", "good.csv", "--target", "z", "--hidden", "1", "--json", "-q")
    assert (code, err) == (0, "")
    assert json.loads(out)["r2"][0] > 0.99
    code, out, _ = kanserve("simplify", "kan.safetensors", "good.csv", "--json", "-q")
    simple = json.loads(out)
    assert code == 0 and simple["edges"] <= simple["edges before"] and "z" in simple["formula"]
    assert kanserve("plot", "simple.safetensors", "--out", "n.svg", "--data", "good.csv")[0] == 0
    assert (folder / "n.svg").read_text().startswith("<?xml")
    code, out, _ = kanserve("formula", "simple.safetensors")
    assert code == 0 and out.startswith("z = ")


def test_predictions_of_a_network_and_of_its_published_version_agree(folder, kanserve):
    from_network = kanserve("predict", "law.safetensors", "good.csv")
    from_artifact = kanserve("predict", "models/law/1", "good.csv")
    assert from_network[0] == from_artifact[0] == 0
    values = [np.loadtxt(out.splitlines()[1:]) for _, out, _ in (from_network, from_artifact)]
    assert len(values[0]) == 80 and np.allclose(values[0], values[1], rtol=1e-12)


def test_a_row_with_a_missing_value_is_answered_with_nan_and_with_null_in_json(folder, kanserve):
    (folder / "holes.csv").write_text("x,y\n0.5,\n0.5,0.5\n")
    assert kanserve("predict", "law.safetensors", "holes.csv")[1].splitlines()[1] == "nan"
    code, out, _ = kanserve("predict", "law.safetensors", "holes.csv", "--json")
    assert code == 0 and json.loads(out)["y"][0] is None


def test_a_classifier_answers_with_the_class_and_the_probability_of_each(folder, kanserve):
    (folder / "two.csv").write_text("x1,x2\n0.5,0.5\n,0.5\n")
    code, out, _ = kanserve("predict", "classifier.safetensors", "two.csv")
    header, first, second = out.splitlines()
    assert (code, header) == (0, "class,setosa,versi color,virginica")
    chances = probabilities(classifier(), [[0.5, 0.5]])[0]
    assert first.split(",")[0] == classifier().classes[int(chances.argmax())]
    assert np.allclose([float(word) for word in first.split(",")[1:]], chances, rtol=1e-12)
    assert second == ",nan,nan,nan"


def test_a_prediction_needs_the_columns_that_the_model_uses_and_ignores_others(folder, kanserve):
    kan = from_formula("2*x", inputs=["x", "unused"], ranges={"x": (-1, 1), "unused": (3, 4)})
    assert [variable.name for variable in kan.inputs] == ["x", "unused"]
    serialization.save(kan, folder / "pruned.safetensors")
    repository.publish(folder / "models", "pruned", compile_kan(kan, ["numpy_source"], name="pruned"))
    (folder / "few.csv").write_text("note,x\nred,0.5\nblue,-0.25\n")
    with start(folder / "models", port=0) as server:
        for model in ("pruned.safetensors", "models/pruned/1", f"{server.address}/pruned"):
            assert kanserve("predict", model, "few.csv") == (0, "y\n1.0\n-0.5\n", "")
            (folder / "gaps.csv").write_text("x,unused\n0.5,\n-0.25,3.5\n")
            assert kanserve("predict", model, "gaps.csv") == (0, "y\n1.0\n-0.5\n", "")
            (folder / "gaps.csv").write_text("x,unused\n0.5,3.5\n,3.5\n")
            code, out, err = kanserve("predict", model, "gaps.csv")
            assert (code, out) == (0, "y\n1.0\nnan\n") and "1 of 2 rows" in err
    code, _, err = kanserve("predict", "law.safetensors", "few.csv")
    assert code == 2 and "no column 'y'" in err
    (folder / "samples.csv").write_text("x,unused,y\n0.5,,1\n-0.25,3.5,-0.5\n")
    code, out, _ = kanserve("score", "pruned.safetensors", "samples.csv", "--target", "y", "--json")
    assert code == 0 and json.loads(out)["outputs"][0]["r2"] > 0.999


def test_a_network_is_scored_on_samples_that_it_was_not_trained_on(folder, kanserve):
    code, out, err = kanserve("score", "law.safetensors", "good.csv", "--target", "z", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["rows"], told["outputs"][0]["output"]) == (80, "y")
    assert told["outputs"][0]["r2"] == 1 and told["outputs"][0]["rmse"] < 1e-12
    (folder / "far.csv").write_text("x,y,z\n9,0.5,1\n0.5,0.5,2\n")
    code, out, err = kanserve("score", "law.safetensors", "far.csv", "-t", "z")
    assert code == 0 and out.splitlines()[0].split() == ["output", "r2", "rmse"] and "1 of 2 rows" in err
    code, _, err = kanserve("score", "law.safetensors", "far.csv", "-t", "w")
    assert code == 2 and "no column 'w'" in err


def test_a_score_on_rows_of_the_fit_says_so(folder, kanserve):
    kan = symbolic()
    serialization.save(record_rows(kan, hash_rows(read_table("good.csv", "z"))), folder / "law.safetensors")
    code, _, err = kanserve("score", "law.safetensors", "good.csv", "-t", "z")
    assert code == 0 and "fitted to 100% of these rows, so expect a worse score on new ones" in err


def test_a_classifier_is_scored_on_samples_of_some_of_its_classes(folder, kanserve):
    x = np.array([[0.5, 0.5], [-0.5, 0.2], [0.1, -0.9]])
    chances = probabilities(classifier(), x)
    labels = [classifier().classes[place] for place in chances.argmax(axis=1)]
    other = next(name for name in classifier().classes if name != labels[0])
    rows = [f"{a!r},{b!r},{label}" for (a, b), label in zip(x.tolist(), [other, *labels[1:]], strict=True)]
    (folder / "some.csv").write_text("\n".join(["x1,x2,kind", *rows]) + "\n")
    code, out, _ = kanserve("score", "classifier.safetensors", "some.csv", "--target", "kind", "--json")
    told = json.loads(out)
    assert code == 0 and told["accuracy"] == pytest.approx(2 / 3)
    taken = [chances[0, classifier().classes.index(other)], *chances[1:].max(axis=1)]
    assert told["cross_entropy"] == pytest.approx(-np.log(taken).mean())
    (folder / "ids.csv").write_text("\n".join(["id,x1,x2,kind", *(f"7,{row}" for row in rows)]) + "\n")
    assert json.loads(kanserve("score", "classifier.safetensors", "ids.csv", "--json")[1]) == told
    (folder / "new.csv").write_text("x1,x2,kind\n0.5,0.5,daisy\n")
    code, _, err = kanserve("score", "classifier.safetensors", "new.csv")
    assert code == 2 and "Say which column has the classes with --target: no column" in err
    code, _, err = kanserve("score", "classifier.safetensors", "new.csv", "--target", "kind")
    assert code == 2 and "has the label 'daisy' in row 1" in err


def test_rows_outside_the_training_range_are_counted_on_standard_error(folder, kanserve):
    (folder / "far.csv").write_text("x,y\n0.5,0.5\n9,0.5\n")
    code, out, err = kanserve("predict", "law.safetensors", "far.csv")
    assert (code, len(out.splitlines())) == (0, 3)
    assert err.startswith("kanserve: 1 of 2 rows are outside the range of the training data: x up to 9 (trained on ")


@pytest.mark.slow
@pytest.mark.extended
def test_a_classifiers_next_command_names_its_target_and_quotes_its_paths(folder, kanserve):
    rows = [f"{a!r},{'left' if a < 0 else 'right'}" for a in RNG.uniform(-1, 1, 60).tolist()]
    (folder / "two sides.csv").write_text("\n".join(["a,side", *rows]) + "\n")
    code, out, _ = kanserve("fit", "two sides.csv", "-t", "side", "--hidden", "", "-o", "c.safetensors", "-q")
    command = out.splitlines()[-1].removeprefix("next: kanserve ")
    assert code == 0 and "--target side" in command
    code, out, err = kanserve(*shlex.split(command), "-q")
    assert (code, err) == (0, "")


@pytest.mark.slow
def test_the_next_commands_give_a_model_with_intervals_from_the_rows_that_were_held_out(folder, kanserve):
    rows = [f"{a!r},{a + RNG.normal(0, 0.1)!r}" for a in RNG.uniform(-1, 1, 80).tolist()]
    (folder / "noisy.csv").write_text("\n".join(["a,b", *rows]) + "\n")
    words = ["fit", "noisy.csv", "-t", "b", "--hidden", "", "--hold-out", "0.25", "-o", "h.safetensors", "-q"]
    for ending in (["-q"], ["--json"]):
        out = kanserve(*words)[1]
        words = shlex.split(out.splitlines()[-1].removeprefix("next: kanserve ")) + ending
    code, out, err = kanserve(*words)
    assert (code, err, words[0]) == (0, "", "publish")
    assert json.loads(out)["intervals"].startswith("by the errors on 20 rows that the network was not fitted to")


@pytest.mark.slow
def test_publishing_with_rows_of_the_fit_says_that_there_are_no_intervals(folder, kanserve):
    rows = [f"{a!r},{np.sin(3 * a) + RNG.normal(0, 0.1):.17g}" for a in RNG.uniform(-1, 1, 60).tolist()]
    (folder / "all.csv").write_text("\n".join(["a,b", *rows]) + "\n")
    assert kanserve("fit", "all.csv", "-t", "b", "--hidden", "", "-o", "all.safetensors", "-q")[0] == 0
    out = kanserve("simplify", "all.safetensors", "all.csv", "-o", "simple.safetensors", "-q")[1]
    assert out.splitlines()[-1] == "next: kanserve publish simple.safetensors models --name model"
    publish = ("publish", "simple.safetensors", "models", "--name", "all", "--formats", "numpy_source")
    out = kanserve(*publish, "--data", "all.csv")[1]
    assert "none: the network was fitted to all of these 60 rows" in " ".join(out.split())
    code, _, err = kanserve(*publish, "--hold-out", "0.2")
    assert code == 2 and "give --data too" in err


def test_a_pipe_or_a_device_is_written_to_and_a_link_is_followed(folder, kanserve):
    assert kanserve("predict", "law.safetensors", "good.csv", "-f", "-o", "/dev/null")[0] == 0
    assert not Path("/dev/null").is_file()
    (folder / "link.csv").symlink_to("real.csv")
    assert kanserve("predict", "law.safetensors", "good.csv", "-o", "link.csv")[0] == 0
    assert (folder / "link.csv").is_symlink() and (folder / "real.csv").is_file()


@pytest.mark.slow
@pytest.mark.extended
def test_ctrl_c_ends_a_fit_with_130_and_leaves_nothing(folder):
    rows = RNG.uniform(-1, 1, (20_000, 4))
    np.savetxt(folder / "big.csv", rows, delimiter=",", header="a,b,c,z", comments="")
    before = sorted(str(path) for path in folder.rglob("*"))
    words = [sys.executable, "-m", "kanserve", "fit", "big.csv", "-t", "z"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=folder)
    assert process.stderr is not None
    assert "start 1" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in err
    assert sorted(str(path) for path in folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.extended
def test_hidden_nodes_are_chosen_as_the_estimators_choose_them(folder, kanserve):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    a, kind = np.round(RNG.uniform(-1, 1, 80), 3), RNG.choice(["up", "down"], 80)
    table = pandas.DataFrame(
        {"a": a, "kind": kind, "y": a**2 + 3 * (kind == "up") + np.round(RNG.normal(0, 0.05, 80), 3)}
    )
    table.to_csv(folder / "kinds.csv", index=False)
    code, out, _ = kanserve("fit", "kinds.csv", "-t", "y", "-o", "kinds.safetensors", "-q", "--json")
    model = KANRegressor(n_networks=1, random_state=0).fit(table[["a", "kind"]], table["y"])
    kan = serialization.load(folder / "kinds.safetensors")
    assert code == 0 and json.loads(out)["shape"] == list(kan.shape) == list(model.kan_.shape)
    assert [one.categories for one in kan.inputs] == [one.categories for one in model.kan_.inputs]


def test_a_fit_goes_on_from_the_file_that_it_kept(folder, kanserve):
    words = ("fit", "good.csv", "-t", "z", "--hidden", "2", "--checkpoint", "fit.ckpt", "-f", "-q")
    assert kanserve(*words, "-o", "once.safetensors")[0] == 0
    assert kanserve(*words, "-o", "again.safetensors")[0] == 0
    assert (folder / "once.safetensors").read_bytes() == (folder / "again.safetensors").read_bytes()
    code, _, err = kanserve(*words, "-o", "other.safetensors", "--seed", "1")
    assert code == 2 and "fit.ckpt" in err
    code, _, err = kanserve("fit", "good.csv", "-t", "z", "--hidden", "fewest", "--checkpoint", "fit.ckpt")
    assert code == 2 and "--checkpoint" in err


def test_an_export_is_a_folder_a_format_that_is_whole_or_not_there(folder, kanserve):
    assert kanserve("export", "law.safetensors", "--out", "out", "--formats", "numpy_source,c_source")[0] == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["c_source", "numpy_source"]
    code, _, err = kanserve("export", "law.safetensors", "--out", "out")
    assert code == 2 and "there already" in err


def test_publishing_twice_makes_the_next_version(folder, kanserve):
    words = ("publish", "law.safetensors", "models", "--name", "law", "--formats", "numpy_source", "--json")
    assert json.loads(kanserve(*words)[1])["version"] == 2
    assert repository.versions(folder / "models", "law") == (1, 2)


def test_a_url_is_published_to_as_it_is_written(folder, kanserve):
    url = f"file://{folder}/elsewhere"
    code, out, err = kanserve("publish", "law.safetensors", url, "--name", "law", "--formats", "numpy_source", "--json")
    assert (code, err) == (0, "") and json.loads(out)["folder"] == f"{url}/law/1"
    assert repository.versions(folder / "elsewhere", "law") == (1,) and not (folder / "file:").exists()


def test_what_is_published_to_a_store_is_served_by_the_command_that_is_shown(folder, kanserve):
    url = "memory://published/models"
    code, out, err = kanserve("publish", "law.safetensors", url, "--name", "law", "--formats", "numpy_source")
    assert (code, err) == (0, "") and f"{url}/law/1" in out
    assert f"next: kanserve serve {url} --trust-remote-code" in out
    assert repository.versions(url, "law") == (1,)


def test_inspect_shows_a_network_and_a_version(folder, kanserve):
    facts = json.loads(kanserve("inspect", "law.safetensors", "--json")[1])
    assert (facts["shape"], facts["symbolic"], facts["inputs"][0]["name"]) == ([2, 1, 1], True, "x")
    assert "kan.safetensors" in json.loads(kanserve("inspect", "models/law/1", "--json")[1])["files"]
    serialization.save(mixed(), folder / "mixed.safetensors")
    plain = kanserve("inspect", "mixed.safetensors")[1]
    assert "sin" in plain and "fill_value" not in plain and "categories" not in plain


def test_a_formula_says_in_every_style_which_numbers_stand_for_categories(folder, kanserve):
    serialization.save(named_categories(), folder / "categories.safetensors")
    for style in ("text", "latex", "python", "c"):
        out = kanserve("formula", "categories.safetensors", "--as", style)[1]
        assert "  where kind = 0.5 for 'p', 1.5 for 'q', -0.25 for 'r', 0.75 where missing or unknown\n" in out


@pytest.mark.slow
@pytest.mark.extended
def test_a_formula_is_printed_in_every_style_or_refused_where_it_is_too_long(folder, kanserve):
    for style, wanted in {"text": "exp(sin(", "latex": "e^{", "python": "np.exp(", "c": "exp(sin("}.items():
        code, out, _ = kanserve("formula", "law.safetensors", "--as", style)
        assert code == 0 and out.startswith(f"y = {wanted}")
    serialization.save(mixed(), folder / "mixed.safetensors")
    assert "no closed form" in kanserve("formula", "mixed.safetensors")[1]
    chain = Kan((make_layer(functions=[["sin"]]),) * 1000)
    serialization.save(chain, folder / "chain.safetensors")
    code, out, err = kanserve("formula", "chain.safetensors", "--as", "c")
    assert (code, out) == (2, "") and "too long" in err


def test_hostile_names_are_shown_without_control_characters_or_markup(folder, kanserve):
    serialization.save(hostile_names(), folder / "hostile.safetensors")
    code, out, _ = kanserve("inspect", "hostile.safetensors")
    assert code == 0 and "\\n" not in out.replace("\n", "") and "__import__" in out


def test_a_constant_column_is_no_obstacle(folder, kanserve):
    rows = [f"{a!r},1.5,{2 * a!r}" for a in RNG.uniform(-1, 1, 60).tolist()]
    (folder / "constant.csv").write_text("\n".join(["a,b,z", *rows]) + "\n")
    code, out, _ = kanserve("fit", "constant.csv", "-t", "z", "-o", "c.safetensors", "--hidden", "1", "-q", "--json")
    assert code == 0 and json.loads(out)["r2"][0] > 0.99


def test_a_port_in_use_is_said_in_one_line(folder, kanserve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = kanserve("serve", "models", "--port", str(taken.getsockname()[1]))
    assert code == 2 and err.count("\n") == 1 and "in use" in err


def test_help_teaches_each_command_with_an_example(kanserve):
    for words in (("--help",), ("session", "--help")):
        code, out, _ = kanserve(*words)
        _, _, summaries = out.partition("Commands:\n")
        assert code == 0 and summaries and "..." not in summaries  # none is cut
    code, out, _ = kanserve("--help")
    assert code == 0
    for command in (
        "fit",
        "simplify",
        "plot",
        "export",
        "publish",
        "serve",
        "predict",
        "score",
        "formula",
        "inspect",
        "demo",
    ):
        assert re.search(rf"^.*\b{command}\b", out, re.MULTILINE)
        code, text, _ = kanserve(command, "--help")
        assert code == 0 and (command == "demo" or f"kanserve {command}" in text)


@pytest.mark.slow
@pytest.mark.extended
def test_the_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "kanserve", "inspect", "none"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "kanserve: The file 'none' does not exist.\n")


def test_the_version_names_the_libraries_that_the_native_transport_is_made_of(kanserve):
    code, out, err = kanserve("--version")
    first, *rest = out.splitlines()
    assert (code, err) == (0, "") and re.fullmatch(r"kanserve \d+\.\d+\.\S+", first)
    (text,) = rest
    if native_library.why_not_native(os.environ.get("KANSERVE_TRANSPORT", "auto")):
        assert text.startswith("grpcio transport: ")
    else:
        rest_too = native_library.library().serves_http
        names = ["nghttp2", "zlib", *(["llhttp", "yyjson"] if rest_too else []), "OpenSSL"]
        assert text.startswith("native transport: ")
        assert re.findall(r"(\w+) \d+\.\d+\.\d+", text) == names


def test_the_version_says_that_grpcio_serves_where_the_native_transport_is_turned_off(kanserve, monkeypatch):
    monkeypatch.delenv("KANSERVE_TRANSPORT", raising=False)
    monkeypatch.setenv("KANSERVE_NATIVE", "0")
    _, out, _ = kanserve("--version")
    assert out.splitlines()[1:] == ["grpcio transport: KANSERVE_NATIVE=0 turns the native transport off"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default::kanserve.data.TableWarning")
def test_a_table_of_another_spelling_is_fitted_and_predicted_with_a_line_that_says_so(folder, kanserve):
    rows = [f"{x / 8:.3f}".replace(".", ",") + f";{1000 + 250 * x:,}".replace(",", ".") for x in range(40)]
    (folder / "preise.csv").write_text("Maß;Preis\n" + "\n".join(rows) + "\n", "utf-8")
    words = ("preise.csv", "--target", "Preis", "--hidden", "", "--out", "preise.safetensors", "--quiet")
    code, _, err = kanserve("fit", *words)
    assert code == 0
    assert err == "kanserve: column 'Maß': '0,000' is read as 0; column 'Preis': '1.000' is read as 1000\n"
    code, out, err = kanserve("predict", "preise.safetensors", "preise.csv")
    assert code == 0 and "'0,000' is read as 0" in err
    assert float(out.splitlines()[3]) == pytest.approx(1500, rel=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("default::kanserve.data.TableWarning")
def test_the_decimal_mark_of_numbers_in_doubt_is_an_option_of_each_command(folder, kanserve):
    rows = "".join(f"1.{100 + n};{2 + n / 1000:.3f}\n" for n in range(60))
    (folder / "doubt.csv").write_text("x;y\n" + rows)
    for decimal, unit in ((".", 1.0), (",", 1000.0)):
        out = f"{int(unit)}.safetensors"
        code, printed, _ = kanserve(
            "fit", "doubt.csv", "-t", "y", "--hidden", "", "-o", out, "-q", "--decimal", decimal
        )
        assert code == 0 and f"--decimal {decimal}" in printed
        kan = serialization.load(folder / out)
        assert kan.inputs[0].low == 1.1 * unit
        assert kanserve("score", out, "doubt.csv", "--decimal", decimal)[0] == 0
        code, printed, _ = kanserve("predict", out, "doubt.csv", "--decimal", decimal)
        assert code == 0 and float(printed.splitlines()[1]) == pytest.approx(2 * unit, rel=1e-3)


@pytest.mark.slow
def test_few_whole_answers_get_a_hint_of_classify(folder, kanserve):
    (folder / "bits.csv").write_text("x,y\n" + "".join(f"{n},{int(n > 20)}\n" for n in range(40)))
    code, _, err = kanserve("fit", "bits.csv", "-t", "y", "--hidden", "", "-o", "bits.safetensors", "-q")
    assert code == 0 and "2 different whole values, which are learned as numbers; --classify learns them" in err
    code, _, err = kanserve("fit", "bits.csv", "-t", "y", "--hidden", "", "-o", "c.safetensors", "-q", "--classify")
    assert code == 0 and "--classify" not in err
