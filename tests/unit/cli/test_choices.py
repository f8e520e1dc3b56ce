"""What `--help` lists and a shell completes."""

from typing import get_args

import pytest

import kanserve_exporters
from kanserve.formula.from_network.sources import ALL_LANGUAGES
from kanserve.importers import BASES, LIBRARIES, POLYNOMIALS, SQUASHES
from kanserve.network.export_options import CForm, OnnxForm, Precision

CHOICES: dict[str, list[tuple[str, ...]]] = {
    "fit": [("auto", "lm", "lbfgs", "adam")],
    "plot": [("auto", "flow", "matrix")],
    "publish": [get_args(Precision)],
    "export": [get_args(Precision), get_args(CForm), get_args(OnnxForm), tuple(sorted(ALL_LANGUAGES))],
    "formula": [("text", "latex", "python", "c", "json")],
    "import": [LIBRARIES, BASES, POLYNOMIALS, SQUASHES],
}


@pytest.mark.parametrize("command", CHOICES)
def test_help_lists_the_choices_of_an_option(command, kanserve):
    _, out, _ = kanserve(command, "--help")
    for choices in CHOICES[command]:
        assert "|".join(choices) in out
    if command in ("publish", "export"):
        assert ", ".join(kanserve_exporters.names()) in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("fit", "a.csv", "--optimizer", "l"), ["lm", "lbfgs"]),
        (("export", "a.safetensors", "--formats", "c_source,num"), ["c_source,numpy_source"]),
        (("sco",), ["score"]),
    ],
)
def test_a_shell_completes_commands_and_choices(words, wanted, kanserve, monkeypatch):
    monkeypatch.setenv("_KANSERVE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["kanserve", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    code, out, _ = kanserve()
    assert code == 0 and out.split() == wanted
