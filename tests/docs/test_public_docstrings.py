"""Every entry of the reference of the site has NumPy sections, and its examples run."""

import ast
import asyncio
import doctest
import importlib
import inspect
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import fields, is_dataclass
from functools import cache, cached_property
from io import StringIO
from typing import Any, Self

import pytest

import kanserve
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.paths import DOCS
from tests.support.servers.studios import needs_page

ENTRY = re.compile(r"^\.\. auto(?!summary)\w+:: (kanserve\.\S+)\n((?:   :.*\n)*)", re.MULTILINE)


def entries() -> Iterator[tuple[str, Any]]:
    """What the pages of the reference show, by its name: functions, classes, and their methods and properties."""
    for page in sorted((DOCS / "reference" / "api").glob("*.rst")):
        for name, options in ENTRY.findall(page.read_text("utf-8")):
            module, _, last = name.rpartition(".")
            yield name, (found := getattr(importlib.import_module(module), last))
            if not (":members:" in options and inspect.isclass(found)):
                continue
            left_out = re.findall(r":exclude-members: (.*)", options)
            for member in dir(found):
                member_is_shown = member in vars(found) or ":inherited-members:" in options
                if member.startswith("_") or not member_is_shown or member in ", ".join(left_out).split(", "):
                    continue
                value = inspect.getattr_static(found, member)
                if (function := function_of(value)) and function.__module__.startswith("kanserve") and text_of(value):
                    yield f"{name}.{member}", value


def function_of(found: Any) -> Callable[..., Any] | None:
    """The function of a method or a property; None for other members."""
    inner = {staticmethod: "__func__", classmethod: "__func__", property: "fget", cached_property: "func"}
    function = getattr(found, inner.get(type(found), ""), found)
    return function if inspect.isroutine(function) else None


def text_of(found: Any) -> str:
    return inspect.getdoc(found if inspect.isclass(found) else function_of(found)) or ""


METHODS = (
    "__call__",
    "predict",
    "plot",
    "formula",
    "save",
    "export",
)  # of a network: the page has those by their names
ENTRIES = {**dict(entries()), **{f"kanserve.Kan.{name}": getattr(kanserve.Kan, name) for name in METHODS}}
OF_ASYNC_CLIENT = [name for name in ENTRIES if name.startswith("kanserve.AsyncClient.")]
OF_CLIENT = [name for name in ENTRIES if name.startswith(("kanserve.Client.", "kanserve.client."))]
# Classes whose methods' examples go on from those of the class.
GO_ON = ("kanserve.KANClassifier", "kanserve.Session", "kanserve.repository.Source")


def missing(name: str) -> list[str]:
    """The sections that a docstring should have and has not."""
    found = ENTRIES[name]
    if inspect.isclass(found):
        wanted = ["Examples"]
        parameters = set() if issubclass(found, Exception) else set(inspect.signature(found).parameters)
        if parameters and not getattr(found, "_is_protocol", False) and not has_documented_fields(found):
            wanted.append("Parameters")
    else:
        function = function_of(found)
        assert function is not None
        is_property = isinstance(found, property | cached_property)
        owner = ENTRIES.get(name.rpartition(".")[0])
        # A property may be shown by the example of its class.
        shown = is_property and re.search(rf"(>>>|\.\.\.) .*\.{name.rpartition('.')[2]}\b", text_of(owner))
        wanted = [] if shown else ["Examples"]
        signature = inspect.signature(function)
        if set(signature.parameters) - {"self", "cls"} and not is_property:
            wanted.append("Parameters")
        # The class says that each of its methods returns the same object.
        nothing = (None, "None", Self, "Self", signature.empty)
        if signature.return_annotation not in nothing and not is_property:
            wanted.append("Yields" if name.endswith("Client.watch") else "Returns")
        if "raise " in inspect.getsource(inspect.unwrap(function)):
            wanted.append("Raises")
    return [section for section in wanted if f"{section}\n{'-' * len(section)}\n" not in text_of(found)]


def has_documented_fields(found: type) -> bool:
    """Whether each field of a dataclass has its text beside it, which the page shows in place of parameters."""
    if not is_dataclass(found):
        return False
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(found))).body
    assert isinstance(body, ast.ClassDef)
    told = {
        before.target.id
        for before, after in zip(body.body, body.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    return told >= {field.name for field in fields(found)}


def test_the_reference_is_read():
    assert len(ENTRIES) > 350 and len(OF_ASYNC_CLIENT) > 10 and len(OF_CLIENT) > 20


@pytest.mark.parametrize("name", ENTRIES)
def test_a_public_name_has_its_sections(name):
    assert missing(name) == []


@pytest.mark.extended
@pytest.mark.examples
@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in OF_CLIENT + OF_ASYNC_CLIENT])
def test_its_examples_run(name, monkeypatch, tmp_path):
    if name.startswith("kanserve.mlflow."):
        pytest.importorskip("mlflow", reason="needs mlflow")
        warnings.simplefilter("ignore")  # those of MLflow; pytest restores the filters
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    if name == "kanserve.Session.widget":
        needs_page()
    owner, _, last = name.rpartition(".")
    names = {last: ENTRIES[name], "kanserve": kanserve}
    if "kanserve.KANClassifier" in (name, owner):
        names |= names_after_classifier()
        if name == "kanserve.KANClassifier":
            return
    elif owner in GO_ON:
        run(ENTRIES[owner], owner, names)
    run(ENTRIES[name], name, names)


@cache
def names_after_classifier() -> dict[str, Any]:
    """What the examples of the class leave for those of its methods: a fit takes a second, and no method changes it."""
    names: dict[str, Any] = {"kanserve": kanserve}
    run(ENTRIES["kanserve.KANClassifier"], "KANClassifier", names)
    return names


def run(found: Any, name: str, names: dict[str, Any]) -> None:
    """Run the examples of a docstring with these names, to which theirs are added."""
    test = doctest.DocTestParser().get_doctest(text_of(found), names, name, None, 0)
    test.globs = names  # not a copy of it
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append, clear_globs=False)
    assert not said, "".join(said)


@pytest.fixture(scope="module")
def line_server(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    line = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    unseen = [[n / 20] for n in range(20)], [[n / 10 + 1.25] for n in range(20)]
    kanserve.publish(models, "line", kanserve.compile(line, ["numpy_source"], name="line", data=unseen))
    with start(Settings(repository=str(models), port=0, anonymous=("predict", "read", "manage"))) as running:
        yield running


@pytest.mark.parametrize("name", OF_ASYNC_CLIENT)
def test_an_awaited_call_has_the_parameters_of_its_signature(name):
    parameters = [one for one in inspect.signature(ENTRIES[name]).parameters if one != "self"]
    if parameters:
        section = text_of(ENTRIES[name]).partition("Parameters\n----------\n")[2].partition("\n\n")[0]
        said = [line.split(" : ")[0] for line in section.splitlines() if not line.startswith(" ")]
        assert sorted(", ".join(said).split(", ")) == sorted(parameters)


@pytest.mark.parametrize("name", OF_ASYNC_CLIENT)
def test_the_example_of_an_awaited_call_runs(name, line_server):
    test = doctest.DocTestParser().get_doctest(text_of(ENTRIES[name]), {}, name, None, 0)
    assert test.examples
    assert asyncio.run(typed(test.examples, line_server.address)) == [example.want for example in test.examples]


@pytest.mark.parametrize("name", OF_CLIENT)
def test_the_example_of_an_answer_runs(name, line_server):
    with kanserve.Client(line_server.address) as client:
        assert ">>> " in text_of(ENTRIES[name]) or isinstance(ENTRIES[name], property)
        run(ENTRIES[name], name, {"client": client})


async def typed(examples: list[doctest.Example], address: str) -> list[str]:
    """What `python -m asyncio` prints for each example, where `client` is connected to a server."""
    said = []
    async with kanserve.AsyncClient(address) as client:
        names = {"client": client}
        for example in examples:
            code = compile(example.source, "example", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            with redirect_stdout(StringIO()) as printed:
                done = eval(code, names)
                if inspect.isawaitable(done):
                    await done
            said.append(printed.getvalue())
    return said
