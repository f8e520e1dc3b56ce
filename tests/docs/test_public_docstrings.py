"""Every public function and class has NumPy sections, and its examples run."""

import doctest
import inspect

import pytest

import kanserve
import kanserve.batch
import kanserve.nn
import kanserve.pde

METHODS = ("__call__", "predict", "plot", "formula", "save")
OF_FINDINGS = ("select", "predict", "to_frame", "latex_table", "save", "load")
PUBLIC = {name: getattr(kanserve, name) for name in kanserve.__all__}
NAMES = [name for name, found in PUBLIC.items() if inspect.isroutine(found) or inspect.isclass(found)]
NAMES += [*(f"nn.{name}" for name in kanserve.nn.__all__), "nn.KANLayer.set_grid"]
NAMES += [f"pde.{name}" for name in kanserve.pde.__all__]
GIVEN = ("pde.Field", "pde.Fields")  # what a function of the caller gets, and never makes
NAMES += [f"batch.{name}" for name in kanserve.batch.__all__]


def missing(found):
    """The sections that a docstring should have and has not."""
    text = inspect.getdoc(found) or ""
    wanted = ["Examples"]
    if inspect.isclass(found) and issubclass(found, Exception):
        return [name for name in wanted if name not in text]
    signature = inspect.signature(found)
    if set(signature.parameters) - {"self", "cls"}:
        wanted.append("Parameters")
    if not inspect.isclass(found) and signature.return_annotation not in (None, "None"):
        wanted.append("Returns")
    source = inspect.getsource(inspect.unwrap(found))
    if not inspect.isclass(found) and "raise " in source:
        wanted.append("Raises")
    return [name for name in wanted if f"{name}\n{'-' * len(name)}\n" not in text]


@pytest.mark.parametrize(
    "name", [*NAMES, *(f"Kan.{method}" for method in METHODS), *(f"Findings.{method}" for method in OF_FINDINGS)]
)
def test_a_public_name_has_its_sections(name):
    found = kanserve
    for part in name.split("."):
        found = getattr(found, part)
    assert not set(missing(found)) - ({"Parameters"} if name in GIVEN else set())


@pytest.mark.parametrize(
    "name",
    [
        *NAMES,
        *(f"Kan.{method}" for method in (*METHODS, "export")),
        *(f"Findings.{method}" for method in OF_FINDINGS),
    ],
)
def test_its_examples_run(name):
    found = kanserve
    for part in name.split("."):
        found = getattr(found, part)
    text = inspect.getdoc(found) or ""
    test = doctest.DocTestParser().get_doctest(text, {name: found}, name, None, 0)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert not said, "".join(said)
