"""The methods of the clients: each has NumPy's sections, and its example runs against a server."""

import doctest
import inspect

import pytest

import kanserve
from kanserve.serve.server import start
from kanserve.serve.settings import Settings

LINE = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
METHODS = [name for name, found in inspect.getmembers(kanserve.Client, inspect.isfunction) if not name.startswith("_")]


@pytest.fixture(scope="module")
def line_server(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    unseen = [[n / 20] for n in range(20)], [[n / 10 + 1.25] for n in range(20)]
    kanserve.publish(models, "line", kanserve.compile(LINE, ["numpy_source"], name="line", data=unseen))
    with start(Settings(repository=str(models), port=0, anonymous=("predict", "read", "manage"))) as running:
        yield running


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_its_sections_and_its_example_runs(name, line_server):
    method = getattr(kanserve.Client, name)
    text = inspect.getdoc(method) or ""
    if name == "close":
        assert "InputError" in text
        return
    signature = inspect.signature(method)
    sections = ["Examples"]
    sections += ["Parameters"] if len(signature.parameters) > 1 else []
    sections += ["Yields" if name == "watch" else "Returns"] if signature.return_annotation is not None else []
    for section in sections:
        assert f"\n{section}\n{'-' * len(section)}\n" in text, section
    for parameter in list(signature.parameters)[1:]:
        assert parameter in text.split("Returns\n")[0].split("Yields\n")[0], parameter
    said: list[str] = []
    with kanserve.Client(line_server.address) as client:
        test = doctest.DocTestParser().get_doctest(text, {"client": client}, name, None, 0)
        assert test.examples
        doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", METHODS)
def test_the_asyncio_client_has_the_same_method(name):
    ours, theirs = (getattr(one, name) for one in (kanserve.Client, kanserve.AsyncClient))
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    assert inspect.getdoc(theirs)
