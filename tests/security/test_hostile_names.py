"""Names of models, features, units, outputs and classes are data: in every format the code is the one of plain names.

Of each format the test takes what is left without texts and comments, and compares it with that of a network whose
names are plain. So a name is nowhere in the code, not even a harmless one; and then it runs what it got.
"""

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import kanserve_exporters
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import CForm, ExportOptions
from kanserve.network.kan import Kan, Variable, make_layer
from kanserve.runtime import numpy_backend, onnx_backend
from kanserve_exporters._shared.source_text import c_identifier
from tests.support.c_builds import CPP, C, run, written
from tests.support.faults.hostile_texts import names

Array = NDArray[np.float64]
Files = Mapping[str, bytes]

NAMES = names()
X = np.array([[0.3], [-0.7], [1e3], [np.nan]])
_TEXT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"', re.DOTALL)
_NUMBERS = re.compile(r"(_information\[\] = )\{[\d,\s]*\};")  # a text of more characters than a literal may have


@dataclass(frozen=True)
class Format:
    """A way to write a network: its files, and their code, which holds neither texts nor comments."""

    export: Callable[[Kan, str], Files]
    code: Callable[[Files], object]


def exported(kind: str, form: CForm = "files") -> Callable[[Kan, str], Files]:
    return lambda kan, name: kanserve_exporters.get(kind).export(kan, ExportOptions(name, c_form=form))


def c_code(files: Files) -> dict[str, str]:
    """Every file but the README, whose fences no name can end: it is documentation, and ASCII."""
    found = {}
    for path, data in files.items():
        text = data.decode("ascii")
        assert re.fullmatch("[A-Za-z][A-Za-z0-9_.]*", path) and not re.search(r"[^\n -~]", text)
        if path != "README.md":
            assert "??" not in text
            found[path] = _NUMBERS.sub(r'\1"";', _TEXT.sub('""', text)) if path.endswith((".c", ".h")) else text
    return found


def python_code(files: Files) -> str:
    """The module's tree, with every text empty."""
    ((path, data),) = files.items()
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*\.py", path) and data.isascii()
    tree = ast.parse(data)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


def javascript_code(files: Files) -> str:
    """The module without texts and comments."""
    ((path, data),) = files.items()
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*\.mjs", path) and not re.search(rb"[^\n -~]|</|<!", data)
    return _TEXT.sub('""', data.decode("ascii"))


def onnx_code(files: Files) -> bytes:
    """The model without its documentation."""
    ((_, data),) = files.items()
    model = onnx.load_from_string(data)
    del model.metadata_props[:]
    described: list[Any] = [model, model.graph, *model.graph.node, *model.functions]
    for message in described:
        message.doc_string = ""
    code: bytes = model.SerializeToString(deterministic=True)
    return code


FORMATS = {
    "C": Format(exported("c_source"), c_code),
    "C, one file": Format(exported("c_source", "single_file"), c_code),
    "C, a header": Format(exported("c_source", "header_only"), c_code),
    "JavaScript": Format(exported("javascript_source"), javascript_code),
    "NumPy": Format(exported("numpy_source"), python_code),
    "ONNX": Format(exported("onnx_graph"), onnx_code),
}


@cache
def named(name: str = "x") -> Kan:
    """A classifier that has this name wherever a network has names."""
    return Kan(
        (make_layer(functions=[["sin"], ["tanh"]], affine=[[[1.3, 0.2, 0.7, 0.1]], [[0.7, 0.0, 1.0, 0.0]]]),),
        inputs=(Variable(name, name, -1.0, 1.0),),
        outputs=(Variable(name, name), Variable(f"{name}{name}")),
        classes=(name, f"no {name}"),
    )


@cache
def crowd(step: int = 1) -> Kan:
    """A network with all names at once, or every `step`th."""
    some = NAMES[::step]
    functions = np.where(np.eye(len(some)) > 0, "sin", "")
    return Kan(
        (make_layer(functions=functions),),
        inputs=tuple(Variable(name, name) for name in some),
        outputs=tuple(Variable(name, name) for name in reversed(some)),
        classes=some,
    )


def model_names() -> dict[str, str]:
    """Each name as a model's, or, where its identifier is taken, with a number after it; by identifier."""
    found: dict[str, str] = {}
    for number, name in enumerate(NAMES):
        unused = name if c_identifier(name) not in found else f"{name[:20]} k{number}"
        found[c_identifier(unused)] = unused
    return found


def test_there_are_two_hundred_names_and_all_may_be_names_of_models():
    assert len(set(NAMES)) == len(model_names()) == 200


@cache
def plain_code(kind: str, identifier: str) -> object:
    """The code of the network of plain names, as a model whose name needs no change."""
    return FORMATS[kind].code(FORMATS[kind].export(named(), identifier))


@pytest.mark.extended
@pytest.mark.parametrize("kind", FORMATS)
def test_no_name_is_in_the_code(kind):
    one = FORMATS[kind]
    # The forms of one file are made of the finished files: a few names show that they bring nothing in.
    step = 10 if "," in kind else 1
    for name in NAMES[::step]:
        assert one.code(one.export(named(name), name)) == plain_code(kind, c_identifier(name)), name
    together = crowd(step)
    plain = Kan(together.layers, classes=tuple(f"c{n}" for n in range(len(together.classes))))
    assert one.code(one.export(together, "net")) == one.code(one.export(plain, "net"))


def test_a_name_in_the_code_would_be_seen():
    files = dict(FORMATS["C"].export(named("evil"), "net"))
    wanted = FORMATS["C"].code(files)
    for line in (b"\nint evil;\n", b'\n#define EVIL "*/ "\n'):
        assert FORMATS["C"].code({**files, "net.c": files["net.c"] + line}) != wanted
    module = dict(FORMATS["NumPy"].export(named("evil"), "net"))
    assert python_code({"net.py": module["net.py"] + b"evil = 1\n"}) != python_code(module)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("load", [numpy_backend.load, onnx_backend.load], ids=["NumPy", "ONNX"])
def test_models_of_any_names_give_the_same_bits(load):
    kind = FORMATS["NumPy" if load is numpy_backend.load else "ONNX"]
    wanted = load(kind.export(named(), "net")).predict(X)
    assert np.allclose(wanted, evaluate(named(), X), rtol=1e-14, equal_nan=True)
    for name in NAMES:
        assert np.array_equal(load(kind.export(named(name), name)).predict(X), wanted, equal_nan=True), name
    x = np.linspace(-1, 1, 2 * len(NAMES)).reshape(2, -1)
    assert np.allclose(load(kind.export(crowd(), "net")).predict(x), np.sin(x), rtol=1e-14)


MAIN = """
#include <stdio.h>
#include "all.c"

static void show(int (*predict)(const double *, double *), const char *information)
{
    static const double x[] = {0.3, -0.7, 1e3, NAN};
    double y[2];
    int n;
    for (n = 0; n < 4; n++) {
        const int code = predict(x + n, y);
        printf("%d %a %a\\n", code, y[0], y[1]);
    }
    puts(information);
}

int main(void)
{
$CALLS$
    return 0;
}
"""


def printed(folder: Path, models: Mapping[str, str]) -> dict[str, tuple[list[str], dict[str, Any]]]:
    """For each model of one program, built as C99 and as C++, its answers and what it says of itself."""
    for prefix, name in models.items():
        assert f"{prefix}.c" in written(folder, named(name), name)
    (folder / "all.c").write_text("".join(f'#include "{prefix}.c"\n' for prefix in models))
    calls = "".join(f"    show({prefix}_predict, {prefix}_info());\n" for prefix in models)
    (folder / "main.c").write_text(MAIN.replace("$CALLS$", calls))
    run(*CPP, "-fsyntax-only", "all.c", at=folder)
    run(*C, "-O0", "main.c", "-o", "main", "-lm", at=folder)
    lines = run("./main", at=folder).splitlines()
    assert len(lines) == 5 * len(models)
    return {prefix: (lines[5 * n : 5 * n + 4], json.loads(lines[5 * n + 4])) for n, prefix in enumerate(models)}


@pytest.mark.slow
@pytest.mark.extended
def test_c_of_any_names_builds_gives_the_same_bits_and_says_the_names(tmp_path):
    models = model_names()
    found = printed(tmp_path, {"net": "net", **models})
    wanted, _ = found.pop("net")
    for prefix, (answers, information) in found.items():
        name = models[prefix]
        assert answers == wanted, name
        assert information["name"] == information["inputs"][0]["unit"] == information["classes"][0] == name
