"""Every public function and class has NumPy sections, and its examples run."""

import ast
import asyncio
import doctest
import inspect
from contextlib import redirect_stdout
from io import StringIO

import pytest

import kanserve
import kanserve.analysis
import kanserve.batch
import kanserve.client
import kanserve.data.datasets
import kanserve.errors
import kanserve.formula
import kanserve.nn
import kanserve.pde
import kanserve.repository
import kanserve.repository.model_cards
import kanserve.runtime
import kanserve.search
import kanserve.simplification
import kanserve.train
from kanserve.serve.server import start
from kanserve.serve.settings import Settings

METHODS = ("__call__", "predict", "plot", "formula", "save", "export")
OF_SIGNING = ("Verifier", "Verifier.check", "private_key", "sign", "signed", "trust")


def of_class(name):
    """The public methods of a class of kanserve, with those of its bases that are kanserve's."""
    bases = [base for base in getattr(kanserve, name).__mro__ if base.__module__.startswith("kanserve")]
    found = sorted({method for base in bases for method in vars(base) if not method.startswith("_")})
    methods = {one: getattr(getattr(kanserve, name), one) for one in found}
    own = [one for one, method in methods.items() if inspect.isroutine(method) and "kanserve" in method.__module__]
    return [f"{name}.{one}" for one in own]


OF_KAN = ("from_kan", "to_kan", "set_grids")
OF_LAYER = ["forward", "from_layer", "reset_parameters", "set_grid", "to_layer"]
OF_LAYER += ["extra_repr", "get_extra_state", "set_extra_state"]
OF_FINDINGS = ("select", "chosen", "predict", "to_frame", "latex_table", "save", "load")
OF_ASYNC_CLIENT = [
    name for name, _ in inspect.getmembers(kanserve.AsyncClient, inspect.isroutine) if not name.startswith("_")
]
OF_CLIENT = [
    *(name for name in kanserve.client.__all__ if not name.endswith("Client")),
    *("ServedFormula.evaluate", "ServedAlternative.evaluate"),
]
PUBLIC = {name: getattr(kanserve, name) for name in kanserve.__all__}
NAMES = [name for name, found in PUBLIC.items() if inspect.isroutine(found) or inspect.isclass(found)]
NAMES += [*(f"nn.{name}" for name in kanserve.nn.__all__), *(f"nn.KAN.{name}" for name in OF_KAN)]
NAMES += [f"nn.KANLayer.{name}" for name in OF_LAYER]
NAMES += [f"pde.{name}" for name in kanserve.pde.__all__]
NAMES += ["pde.Field.d", "pde.Field.dd"]
RESULTS = [name for name in kanserve.analysis.__all__ if name[0].isupper()]
NAMES += [*(f"analysis.{name}" for name in RESULTS), *(f"analysis.{name}.plot" for name in RESULTS)]
NAMES += ["analysis.Symmetry.text"]
NAMES += [f"search.{name}" for name in ("FindingsByOutput", "FindingsByOutput.predict", "Improvement")]
NAMES += [f"search.ScoredFormula{name}" for name in ("", ".predict", ".interval", ".facts", ".of_facts")]
# What a caller gets and never makes, or whose fields have their text beside them.
GIVEN = ("editing.Step", "runtime.Backend", "repository.Source", "simplification.SimplificationSettings")
NAMES += ["runtime.Backend", "repository.Source"]
NAMES += [f"repository.Source.{name}" for name in ("look", "look_at", "read", "index", "names", "versions")]
NAMES += ["Layer.edge", "LoadedModel.predict", "LiveProgress.close", "formula.Table"]
NAMES += ["network.export_options.ExportOptions", "repository.model_cards.ModelCard"]
NAMES += [f"simplification.{name}" for name in ("SimplificationSettings", "SimplifyStep")]
NAMES += [f"artifact.{name}" for name in ("Artifact", "Manifest", "Entry", "Metrics", "read", "write")]
NAMES += [f"batch.{name}" for name in kanserve.batch.__all__]
NAMES += [f"formula.{name}" for name in ("evaluate_tree", "expression", "from_json", "source", "to_json", "verify")]
NAMES += [f"repository.{name}" for name in ("clean", "is_remote", "names", "open", "read", "versions")]
NAMES += [f"data.datasets.{name}" for name in ("Equation", "knot_names", "load_equations", "load_knots")]
NAMES += [name for kind in ("Session", "Dataset", "KANRegressor", "KANClassifier") for name in of_class(kind)]
NAMES += [f"batch.BatchPredictor.{name}" for name in ("compute", "kept", "ordered", "predict", "predict_arrow")]
NAMES += [f"artifact.signing.{name}" for name in OF_SIGNING]
NAMES += [f"runtime.{name}" for name in ("get", "load_backend", "load_preferred", "names")]
NAMES += ["train.Progress", "train.Score", "train.TrainingWarning", "train.refine"]
NAMES += [f"errors.{name}" for name in vars(kanserve.errors) if name.endswith("Error")]
NAMES += [
    f"editing.{name}"
    for name in ("Step", "Done", "EdgeView", "FormulaView", "Snapshot", "Snapshot.as_dict", "Suggestion")
]
NAMES += [f"artifact.Artifact.{name}" for name in ("golden", "kan", "part")]
NAMES += ["repository.model_cards.ModelCard.files", "repository.model_cards.ModelCard.save"]


# Classes whose methods' examples go on from those of the class.
GO_ON = {
    "KANClassifier": kanserve.KANClassifier,
    "Session": kanserve.Session,
    "repository.Source": kanserve.repository.Source,
}


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
    "name",
    [
        *NAMES,
        *(f"client.{name}" for name in OF_CLIENT),
        *(f"Kan.{method}" for method in METHODS),
        *(f"Findings.{method}" for method in OF_FINDINGS),
    ],
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
        *(f"Kan.{method}" for method in METHODS),
        *(f"Findings.{method}" for method in OF_FINDINGS),
    ],
)
def test_its_examples_run(name):
    found = kanserve
    for part in name.split("."):
        found = getattr(found, part)
    names = {name: found}
    if name.rpartition(".")[0] in GO_ON:
        run(GO_ON[name.rpartition(".")[0]], name, names)
    run(found, name, names)


def run(found, name, names):
    """Run the examples of a docstring with these names, to which theirs are added."""
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(found) or "", names, name, None, 0)
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
def test_an_awaited_call_has_the_sections_and_parameters_of_its_signature(name):
    method = getattr(kanserve.AsyncClient, name)
    signature, text = inspect.signature(method), inspect.getdoc(method) or ""
    parameters = [one for one in signature.parameters if one != "self"]
    wanted = ["Examples", *(["Parameters"] if parameters else [])]
    if signature.return_annotation is not None:
        wanted.append("Yields" if name == "watch" else "Returns")
    assert [one for one in wanted if f"\n{one}\n{'-' * len(one)}\n" not in text] == []
    if parameters:
        said = text.partition("Parameters\n----------\n")[2].partition("\n    ")[0]
        assert said.split(" : ")[0].split(", ") == parameters


@pytest.mark.parametrize("name", OF_ASYNC_CLIENT)
def test_the_example_of_an_awaited_call_runs(name, line_server):
    text = inspect.getdoc(getattr(kanserve.AsyncClient, name)) or ""
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert test.examples
    assert asyncio.run(typed(test.examples, line_server.address)) == [example.want for example in test.examples]


@pytest.mark.parametrize("name", OF_CLIENT)
def test_the_example_of_an_answer_runs(name, line_server):
    found = kanserve.client
    for part in name.split("."):
        found = getattr(found, part)
    with kanserve.Client(line_server.address) as client:
        assert ">>> " in (inspect.getdoc(found) or "")
        run(found, name, {"client": client})


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
