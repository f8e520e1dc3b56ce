"""Parse command-line arguments: names of formats, shapes, tables and models."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import kanserve_exporters
from kanserve.artifact import Artifact, directory
from kanserve.artifact.naming_rules import MANIFEST
from kanserve.data.dataset import Dataset
from kanserve.data.near_names import near
from kanserve.data.number_texts import Decimal
from kanserve.data.table_files import column_names, read_samples, read_table
from kanserve.errors import AccessError, DataError, FormatError, InputError, KanserveError, NotFoundError
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate, softmax
from kanserve.network.kan import Kan, Variable
from kanserve.network.kan_methods import likeliest
from kanserve.network.training_range import describe_outside, fill_unused, find_unused_inputs, middle_of
from kanserve.repository import local
from kanserve.runtime import load_backend
from kanserve.runtime.model import read_artifact

if TYPE_CHECKING:
    from kanserve.analysis.contributions import Contributions
    from kanserve.cli.commands.server_access import ServerAccess
    from kanserve.train.scoring import Score

Array = NDArray[np.float64]


def require(target: list[str] | None) -> list[str]:
    """The target columns, which have no default. Raises InputError if there are none."""
    if not target:
        raise InputError("Say which column to learn with --target.")
    return target


def one_of(what: str, value: str, allowed: tuple[str, ...]) -> Any:
    """Return the value if it is allowed. Raises InputError otherwise."""
    if value not in allowed:
        raise InputError(f"{what} is one of {', '.join(allowed)}; got {value!r}.")
    return value


def names(formats: str) -> tuple[str, ...]:
    """Parse formats such as "c_source,onnx_graph"."""
    wanted = tuple(name.strip() for name in formats.split(",") if name.strip())
    for name in wanted:
        one_of("--formats", name, kanserve_exporters.names())
    if not wanted:
        raise InputError(f"Choose at least one format of {', '.join(kanserve_exporters.names())}.")
    return wanted


def pairs(option: str, text: str, example: str) -> dict[str, str]:
    """Parse names and values such as "m=kg,v=m/s"."""
    words = [word.partition("=") for word in text.split(",") if word.strip()]
    if any(not equals or not name.strip() for name, equals, _ in words):
        raise InputError(f"{option} are pairs name=value, as in {example!r}; got {text!r}.")
    return {name.strip(): value.strip() for name, _, value in words}


def parse_hidden(text: str) -> list[int]:
    """Parse the sizes of the hidden layers, such as "4,2"."""
    try:
        nodes = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"--hidden takes numbers of nodes, as in '5' or '4,2'; got {text!r}.") from None
    if any(not 1 <= node <= 10_000 for node in nodes):
        raise InputError(f"A hidden layer has 1 to 10000 nodes; got {text!r}.")
    return nodes


def network(path: Path) -> Kan:
    """Load a network. An error names the file, since a command may have several."""
    try:
        return serialization.load(path)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def data_of(kan: Kan, table: Path, target: list[str] | None, decimal: Decimal | None = None) -> Dataset:
    """Read the columns of a table that a network was trained on. A classifier's target is found by its classes."""
    names = [variable.name for variable in kan.inputs]
    if not kan.classes:
        return read_table(table, target or [output.name for output in kan.outputs], names, decimal=decimal)
    data = read_table(table, target or [class_column(kan, table, decimal)], names, "classification", decimal=decimal)
    if data.classes != kan.classes:
        raise DataError(f"The network has the classes {', '.join(kan.classes)}; {table} has {', '.join(data.classes)}.")
    return data


def read_held_out(kan: Kan, table: Path, target: list[str] | None, decimal: Decimal | None = None) -> Dataset:
    """Read samples to score a network on; unused columns, values in them, and classes may be missing."""
    columns = target or [output.name for output in kan.outputs]
    if kan.classes and not target:
        columns = [class_column(kan, table, decimal)]
    names = [variable.name for variable in kan.inputs]
    known = categories_of(kan.inputs)
    data = read_samples(table, columns, names, kan.classes, find_unused_inputs(kan), known, decimal=decimal)
    return replace(data, x=fill_unused(kan, data.x))


def class_column(kan: Kan, table: Path, decimal: Decimal | None = None) -> str:
    """The only column of a table that is not an input of the classifier and contains only its classes."""
    inputs = {variable.name for variable in kan.inputs}
    others = [name for name in column_names(table) if name not in inputs]
    fitting = [name for name in others if _has_classes(kan, table, name, decimal)]
    if len(fitting) != 1:
        columns = ", ".join(fitting[:30]) or "no column"
        raise InputError(
            f"Say which column has the classes with --target: {columns} of {table} could, "
            f"by the classes {', '.join(kan.classes[:10])}."
        )
    return fitting[0]


def _has_classes(kan: Kan, table: Path, name: str, decimal: Decimal | None) -> bool:
    names = [variable.name for variable in kan.inputs]
    try:
        read_samples(
            table, [name], names, kan.classes, find_unused_inputs(kan), categories_of(kan.inputs), decimal=decimal
        )
    except DataError:
        return False
    return True


def categories_of(inputs: Iterable[Variable]) -> dict[str, tuple[str, ...]]:
    return {variable.name: variable.categories for variable in inputs if variable.categories}


def scores(score: "Score") -> dict[str, Any]:
    if score.accuracy is not None:
        return {"accuracy": score.accuracy, "loss": score.loss, "scored on": "the rows it was trained on"}
    return {"r2": list(score.r2), "rmse": list(score.rmse), "scored on": "the rows it was trained on"}


def split_fit_rows(data: Dataset, hold_out: float) -> Dataset:
    """The rows that `--hold-out` leaves for the fit."""
    return data.split(hold_out)[0] if hold_out else data


def unseen_rows(data: Dataset, hold_out: float) -> Dataset:
    """The rows that `--hold-out` kept out of the fit of the same table; all rows without it."""
    return data.split(hold_out)[1] if hold_out else data


def holding_out(hold_out: float) -> list[str]:
    return ["--hold-out", f"{hold_out:g}"] if hold_out else []


def decimal_option(decimal: Decimal | None) -> list[str]:
    return ["--decimal", decimal] if decimal else []


def target_options(kan: Kan, target: list[str] | None) -> list[str]:
    """The --target options for the next command, needed for a classifier, whose file does not name its target."""
    return [word for name in target or () for word in ("--target", name)] if kan.classes else []


@dataclass(frozen=True)
class Predictor:
    """A model that predicts: the names of its inputs, and a function of rows (N, inputs) that returns the result
    columns and a note on rows outside the training range, and one that explains rows by background rows. `unused`:
    inputs without effect, each with a value in the range."""

    inputs: list[str]
    unused: dict[str, float]
    categories: dict[str, tuple[str, ...]]
    predict: Callable[[Array], tuple[dict[str, list[Any]], str]]
    explain: "Callable[[Array, Array | None], Contributions]"


def predictor(model: str, access: "ServerAccess") -> Predictor:
    """The predictor of a network's file, a folder as for `read_version`, or host:port/name[/version]."""
    path = Path(model)
    if path.is_dir():
        access.refuse(model)
        artifact = read_version(path)
        kan = artifact.kan()
        return _local(kan, load_backend(artifact).predict)
    if path.suffix == ".safetensors" or path.exists():
        access.refuse(model)
        kan = network(path)
        return _local(kan, lambda rows: evaluate(kan, rows))
    if path.parent.is_dir() and (hint := near(path.name, (entry.name for entry in path.parent.iterdir()))):
        raise NotFoundError(f"There is no file or folder {model!r}. {hint}".rstrip())
    return _remote(access, *parse_served(model))


def parse_served(model: str) -> tuple[str, str, str]:
    """Parse address, name and version ("" for the newest) from "host:port/name/version" or "unix:path/name/version"."""
    if model.startswith("unix:"):
        return _on_socket(model)
    if model.startswith(("https://", "grpcs://")):
        raise InputError(f"For a server with TLS give host:port/name and --tls or --tls-ca; got {model!r}.")
    address, _, rest = model.removeprefix("grpc://").removeprefix("http://").partition("/")
    name, _, version = rest.partition("/")
    if not name or ":" not in address:
        raise InputError(f"{model!r} is no .safetensors file, no model's folder and no host:port/name of a server.")
    port = address.rpartition(":")[2]
    if not (port.isdecimal() and 1 <= int(port) <= 65_535):  # gRPC would take a larger one modulo 65536
        raise InputError(f"The port of a server is a number from 1 to 65535; got {port!r:.80} in {model!r:.80}.")
    return address, name, version


def _on_socket(model: str) -> tuple[str, str, str]:
    path = Path(model.removeprefix("unix:"))
    for parent in path.parents:
        if parent.is_socket() and len(rest := path.relative_to(parent).parts) <= 2:
            return f"unix:{parent}", rest[0], rest[1] if len(rest) == 2 else ""
    raise InputError(f"{model!r} is no socket file of a server and a model, as unix:/run/kanserve.sock/houses.")


def read_version(folder: Path) -> Artifact:
    """The artifact in a version's folder, or the newest version in a model's folder."""
    if (folder / MANIFEST).exists():
        return directory.read(folder)
    if local.is_model(folder):
        return read_artifact(folder)
    raise NotFoundError(f"{folder} is no published model; give one, as models/houses or models/houses/1.")


def _local(kan: Kan, run: Callable[[Array], Array]) -> Predictor:
    def predict(rows: Array) -> tuple[dict[str, list[Any]], str]:
        values = run(rows)
        outside = describe_outside(kan, rows)
        if not kan.classes:
            return _columns([output.name for output in kan.outputs], values), outside
        best = likeliest(kan.classes, values)
        return {"class": best.tolist(), **_columns(kan.classes, softmax(values))}, outside

    def explain(rows: Array, background: Array | None) -> "Contributions":
        from kanserve.analysis.contributions import explain

        return explain(kan, rows, background)

    names = [variable.name for variable in kan.inputs]
    return Predictor(names, find_unused_inputs(kan), categories_of(kan.inputs), predict, explain)


def _remote(access: "ServerAccess", address: str, name: str, version: str) -> Predictor:
    client = access.client(address)
    outputs: tuple[str, ...] = ()

    def predict(rows: Array) -> tuple[dict[str, list[Any]], str]:
        answer = client.infer(name, rows, version)
        said = f"{answer.outside} of {len(rows)} rows are outside the range of the training data"
        outside = said if answer.outside else ""
        if answer.labels is None or answer.probabilities is None:
            return _columns(outputs, answer.values), outside
        return {"class": answer.labels.tolist(), **_columns(outputs, answer.probabilities)}, outside

    def explain(rows: Array, background: Array | None) -> "Contributions":
        if background is not None:
            raise InputError("A server compares rows with its own: give no --data, or the network's file.")
        return client.explain(name, rows, version)

    try:
        network = client.network(name, version, curve_points=0)
    except KanserveError as error:
        # A caller who may only predict, or a server without this call: then all inputs count as used.
        if not isinstance(error, AccessError) and "UNIMPLEMENTED" not in str(error):
            raise
        info = client.metadata(name, version)
        outputs = info.classes or info.outputs
        return Predictor(list(info.inputs), {}, dict(info.categories), predict, explain)
    outputs = network.outputs
    used = set(range(len(network.outputs)))
    for layer in reversed(network.layers):
        sums = {number for node in used for number in layer.nodes[node].subnodes}
        used = {edge.source for edge in layer.edges if edge.kind != "zero" and edge.target in sums}
    unused = {
        variable.name: middle_of(variable, variable.low, variable.high, float(shift))
        for i, (variable, shift) in enumerate(zip(network.input_variables, network.input_affine[0], strict=True))
        if i not in used
    }
    return Predictor(list(network.inputs), unused, categories_of(network.input_variables), predict, explain)


def _columns(names: Iterable[str], values: Array) -> dict[str, list[Any]]:
    return dict(zip(names, values.T.tolist(), strict=True))


def field(value: str | float) -> str:
    """A value as a field of a CSV file; numbers with all digits."""
    if not isinstance(value, str):
        return repr(value)
    return '"' + value.replace('"', '""') + '"' if any(c in value for c in ',"\n\r') else value
