"""What the words of the command line mean: names of formats, shapes, tables and models become what functions take."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kanserve_exporters
from kanserve import serialization
from kanserve.artifact import directory
from kanserve.errors import DataError, InputError
from kanserve.ir import Kan
from kanserve.reference import evaluate
from kanserve.runtime import load_backend
from kanserve.table import Dataset, read_table

if TYPE_CHECKING:
    from kanserve.train.scoring import Score


def required(target: list[str] | None) -> list[str]:
    """The columns to learn, which have no default."""
    if not target:
        raise InputError("Say which column to learn with --target.")
    return target


def one_of(what: str, value: str, allowed: tuple[str, ...]) -> Any:
    """The value, if it is one of those allowed (Any: the callers' types are Literals)."""
    if value not in allowed:
        raise InputError(f"{what} is one of {', '.join(allowed)}; got {value!r}.")
    return value


def precision(value: str) -> Any:
    """The type that exports compute in."""
    return one_of("--precision", value, ("double", "float"))


def names(formats: str) -> tuple[str, ...]:
    """The formats in "c_source,onnx_graph"."""
    wanted = tuple(name.strip() for name in formats.split(",") if name.strip())
    for name in wanted:
        one_of("--format", name, kanserve_exporters.names())
    if not wanted:
        raise InputError(f"Choose at least one format of {', '.join(kanserve_exporters.names())}.")
    return wanted


def hidden(text: str) -> list[int]:
    """The hidden layers' nodes in "4,2"."""
    try:
        nodes = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"--hidden is numbers of nodes, as in '5' or '4,2'; got {text!r}.") from None
    if any(not 1 <= one <= 10_000 for one in nodes):
        raise InputError(f"A hidden layer has 1 to 10000 nodes; got {text!r}.")
    return nodes


def data_of(kan: Kan, table: Path, target: list[str] | None) -> Dataset:
    """The columns of a table that a network was trained on; a classifier does not know its target's name."""
    names = [one.name for one in kan.inputs]
    if not kan.classes:
        return read_table(table, target or [one.name for one in kan.outputs], names)
    data = read_table(table, required(target), names, "classification")
    if data.classes != kan.classes:
        raise DataError(f"The network has the classes {', '.join(kan.classes)}; {table} has {', '.join(data.classes)}.")
    return data


def scores(score: "Score") -> dict[str, Any]:
    """What to show of a score."""
    if score.accuracy is not None:
        return {"accuracy": score.accuracy, "loss": score.loss}
    return {"r2": list(score.r2), "rmse": list(score.rmse)}


def predictor(model: str) -> tuple[list[str], list[str], Callable[[Any], Any]]:
    """Names of the inputs, names of the outputs and the function rows -> outputs of what `model` names."""
    path = Path(model)
    if path.is_dir():
        artifact = directory.read(path)
        kan, backend = artifact.kan(), load_backend(artifact)
        return [v.name for v in kan.inputs], [v.name for v in kan.outputs], backend.predict
    if path.suffix == ".safetensors" or path.exists():
        kan = serialization.load(path)
        return [v.name for v in kan.inputs], [v.name for v in kan.outputs], lambda rows: evaluate(kan, rows)
    address, _, name = model.partition("/")
    if not name or ":" not in address:
        raise InputError(f"{model!r} is no .safetensors file, no version's folder and no host:port/name of a server.")
    from kanserve.client import Client

    client = Client(address)
    network = client.network(name)
    return list(network.inputs), list(network.outputs), lambda rows: client.predict(name, rows)


def quoted(name: str) -> str:
    """A name as a field of a CSV file."""
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\n\r') else name
