"""Model cards: what they say, that a name cannot write in them, and that no version suffers from its card."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kanserve
from kanserve import repository
from kanserve.artifact import write
from kanserve.cli.app import app
from kanserve.errors import ConflictError, InputError, NotFoundError
from tests.support.artifacts import small
from tests.support.networks.kans import mixed

RANGES = {"speed": (0, 30), "mass": (1, 5)}
KAN = kanserve.from_formula("0.5*mass*speed^2", ranges=RANGES)


def compiled(kan=KAN, **options):
    return kanserve.compile(kan, ["numpy_source"], **options)


def rows():
    x = np.random.default_rng(0).uniform([1, 0], [5, 30], (40, 2))
    return x, KAN(x) + 0.1


def test_a_card_has_formula_picture_ranges_metrics_provenance_and_what_to_fill_in():
    card = kanserve.model_card(compiled(name="energy", data=rows(), provenance={"by": "the laboratory"}))
    for part in (
        "# energy\n",
        "    y = 0.5*mass*speed^2",
        "![The network: each edge with its curve](card.svg)",
        "| input | speed |  | 0 to 30 | no |",
        "| y | 1 | 0.1 | 0.1 |",
        "| 90 % | y | 0.1 |",
        "*To fill in: what the model is for",
        "| by | the laboratory |",
        "| signed | no |",
        'kanserve.load_model("models", "energy")',
    ):
        assert part in card.text, part
    assert card.picture.startswith("<svg") and set(card.files()) == {"card.svg", "card.md"}


def test_notes_fill_in_the_intended_use_and_the_limits():
    text = kanserve.model_card(compiled(provenance={"intended use": "Lectures.\n\nNo more.", "limits": "Air."})).text
    assert "## Intended use\n\nLectures.\n\nNo more.\n\n## Limits\n\nAir.\n\n## Provenance" in text
    assert "To fill in" not in text and "| intended use |" not in text


def test_names_and_notes_are_shown_and_never_read_as_markdown_or_html():
    hostile = ["<script>alert(1)</script>", "a|b `c` [d](e) *f*\n# g", "![x](http://h/i)", "1. &lt; $x$ www.h.i"]
    kan = kanserve.Kan(
        (kanserve.make_layer(functions=[["x"] * len(hostile)]),),
        inputs=tuple(kanserve.Variable(name, "<u>", 0, 1) for name in hostile),
    )
    text = kanserve.model_card(compiled(kan, provenance={key: key for key in hostile})).text
    outside_code = "\n".join(line for line in text.split("```")[0].splitlines() if not line.startswith("    "))
    table = [line for line in outside_code.splitlines() if line.startswith("|") and "script" in line]
    assert "<script" not in outside_code and "<u>" not in outside_code and len(table) == 2
    assert "a\\|b \\`c\\` \\[d\\](e) \\*f\\* \\# g" in outside_code
    assert "http://" not in outside_code and " &lt; " not in outside_code
    assert len([line for line in text.splitlines() if line.startswith("#")]) == 8
    assert "```" not in text.split("```python")[1].split("```")[0] and text.count("```") == 2


@pytest.mark.parametrize("scheme", ["folder", "memory"])
def test_publishing_writes_a_card_of_each_version_beside_it(scheme, tmp_path):
    root = str(tmp_path) if scheme == "folder" else f"memory://cards{os.getpid()}/models"
    for number in (1, 2):
        assert kanserve.publish(root, "energy", compiled()) == number
    kanserve.publish(root, "plain", compiled(), card=False)
    assert repository.open(root).index() == {"energy": (1, 2), "plain": (1,)}
    assert kanserve.load_model(root, "energy").predict([[2.0, 3.0]]).shape == (1, 1)
    card = kanserve.model_card(root, "energy")
    assert card.text.startswith("# energy, version 2\n") and card.stem == "card-2"
    if scheme == "folder":
        assert sorted(os.listdir(tmp_path / "energy")) == [
            *("1", "2", "card-1.md", "card-1.svg", "card-2.md", "card-2.svg")
        ]
        assert (tmp_path / "energy" / "card-2.md").read_text() == card.text
        assert os.listdir(tmp_path / "plain") == ["1"]
        assert repository.open(tmp_path / "energy").index() == {"energy": (1, 2)}
    else:
        import fsspec

        files = fsspec.filesystem("memory")
        assert files.cat_file(f"{root.split('://')[1]}/energy/card-2.md").decode() == card.text


def test_a_path_names_the_card(tmp_path):
    kanserve.publish(tmp_path, "energy", compiled(name="other"))
    for path in (tmp_path, tmp_path / "energy", tmp_path / "energy" / "1"):
        assert kanserve.model_card(path).text.startswith("# energy, version 1\n")
    assert kanserve.model_card(kanserve.load_model(tmp_path)).text.startswith("# other\n")
    with pytest.raises(NotFoundError):
        kanserve.model_card(tmp_path / "nothing")


def test_a_card_says_that_its_version_is_signed(tmp_path):
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    kanserve.publish(tmp_path, "energy", compiled(), key=ed25519.Ed25519PrivateKey.generate())
    assert "| signed | yes |" in (tmp_path / "energy" / "card-1.md").read_text()
    assert "| signed | yes |" in kanserve.model_card(tmp_path).text


def test_a_card_that_cannot_be_written_is_a_warning_and_the_version_is_there(tmp_path, caplog):
    (tmp_path / "energy" / "card-1.md").mkdir(parents=True)
    with caplog.at_level("WARNING", "kanserve"):
        assert kanserve.publish(tmp_path, "energy", compiled()) == 1
    assert "has no model card" in caplog.text
    assert kanserve.load_model(tmp_path).predict([[1.0, 2.0]]).shape == (1, 1)
    assert not [path for path in (tmp_path / "energy").iterdir() if path.name.startswith(".")]


def test_an_artifact_whose_formulas_another_maker_wrote_has_a_card():
    assert "## Formula\n\n    y" in kanserve.model_card(small()).text


@pytest.mark.slow
@pytest.mark.extended
def test_a_large_network_and_one_of_splines_have_cards():
    large = kanserve.model_card(compiled(kanserve.create([40, 30, 3])))
    assert len(large.picture) < 500_000 and len(large.text) < 30_000
    assert "s_l_j_i(u)" in kanserve.model_card(compiled(mixed())).text


# A child publishes and kills itself before the n-th call that opens, makes or renames something.
KILLED = """
import os, signal, sys
from kanserve import repository
from kanserve.artifact import read
from kanserve.repository import model_cards

source, root = sys.argv[1:]
artifact = read(source)
model_cards.card_of(artifact)  # so that nothing is imported later
killed = 0
while True:
    child = os.fork()
    if child == 0:
        calls = 0
        def hook(event, arguments):
            global calls
            if event in {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove"}:
                calls += 1
                if calls == killed + 1:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        repository.publish(root, "model", artifact)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    killed += 1
print(killed)
"""


@pytest.mark.slow
@pytest.mark.extended
def test_a_publisher_killed_at_any_point_leaves_whole_versions_and_whole_cards(tmp_path):
    write(tmp_path / "source", small())
    root = Path(repository.__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "source"), str(tmp_path / "root")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
    published = repository.versions(tmp_path / "root", "model")
    cards = sorted((tmp_path / "root" / "model").glob("card-*.md"))
    assert len(published) > len(cards) >= 1
    for version in published:
        assert repository.read(tmp_path / "root", "model", version).files == small().files
    for card in cards:
        assert card.read_text() == kanserve.model_card(tmp_path / "root", version=int(card.stem[5:])).text
    repository.clean(tmp_path / "root", older_than=0)
    assert not [path for path in (tmp_path / "root" / "model").iterdir() if path.name.startswith(".")]


def run(capsys, *words):
    app([str(word) for word in words], standalone_mode=False)
    return capsys.readouterr().out


def test_the_command_line_publishes_with_notes_and_writes_cards(tmp_path, capsys):
    KAN.save(tmp_path / "kan.safetensors")
    publish = ["publish", tmp_path / "kan.safetensors", tmp_path / "models", "--name", "energy", "--json"]
    publish += ["--formats", "numpy_source"]
    shown = json.loads(run(capsys, *publish, "--note", "intended use=Lectures."))
    assert "Lectures." in Path(shown["card"]).read_text()
    assert "card" not in json.loads(run(capsys, *publish, "--no-card"))
    assert run(capsys, "card", tmp_path / "models").startswith("# energy, version 2\n")
    assert "Lectures." in run(capsys, "card", tmp_path / "models" / "energy" / "1")
    run(capsys, "card", tmp_path / "models", "--out", tmp_path)
    assert {"card-2.md", "card-2.svg"} <= set(os.listdir(tmp_path))
    with pytest.raises(ConflictError, match="--force"):
        run(capsys, "card", tmp_path / "models", "--out", tmp_path)
    with pytest.raises(NotFoundError):
        run(capsys, "card", tmp_path / "models", "--out", tmp_path / "nothing")
    with pytest.raises(InputError, match="intended use=prices"):
        run(capsys, *publish, "--note", "Lectures")
