"""`kanserve demo`: every step of the pipeline on real data, with the result of each. The network predicts the signature
of knots, an even integer, from their hyperbolic invariants, as Davies et al. did with 3e5 parameters (Nature 600,
2021)."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from kanserve import repository
from kanserve.artifact.directory import write_files
from kanserve.artifact.manifest import INTERVALS
from kanserve.artifact_compiler import compile as compile_kan
from kanserve.cli.terminal import tell
from kanserve.client import Client
from kanserve.data.dataset import Dataset
from kanserve.data.datasets import knot_names, load_knots
from kanserve.errors import ConflictError, KanserveError, MissingDependencyError
from kanserve.formula import evaluate_tree, formulas
from kanserve.network import evaluate, serialization
from kanserve.network.conformal_intervals import conformal_intervals
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan
from kanserve.network.signal_shares import find_used_inputs
from kanserve.plot import plot_network
from kanserve.simplification import simplify
from kanserve.train import fit, score

Array = NDArray[np.float64]

MODELS = {"knots-onnx": "onnx_graph", "knots-c": "c_source", "knots-numpy": "numpy_source"}
FOLDS = 5
MARK = ".kanserve-demo"
# All rows are in the fit, so the intervals come from the cross-validation, in which each row is predicted unseen.
NOTES = {INTERVALS: f"by the errors on all rows in {FOLDS}-fold cross-validation of the whole procedure"}
# One multiplication node: the signature is a product of two sums, each over all invariants.
PRODUCT = (0, 1)


def run(folder: Path, *, keep_serving: bool = False, port: int = 0, count: int = FOLDS) -> None:
    """Train, simplify, draw, print the formula, export, publish, serve and call; all files stay in `folder`."""
    _check_extras()
    console = Console(highlight=False)
    _fresh(folder)
    data = load_knots()
    with _step(console, f"train on {len(data)} knots: {data.outputs[0]} from {len(data.inputs)} invariants"):
        trained = fit([len(data.inputs), PRODUCT], data, seed=0, progress=True)
        console.print(f"  {trained.edges} edges, r² {score(trained, data).r2[0]:.4f} on all rows")
    with _step(console, "simplify: prune, then name the functions"):
        simple = simplify(trained, data, all_edges=True, seed=0, progress=tell)
        used = [
            variable.name for variable, needed in zip(simple.inputs, find_used_inputs(simple), strict=True) if needed
        ]
        console.print(f"  {simple.edges} edges remain, and {len(used)} inputs: {', '.join(used)}", soft_wrap=True)
    with _step(console, "picture, network and formula"):
        _picture(simple, data, folder / "network.png")
        serialization.save(simple, folder / "knots.safetensors")
        law = formulas(simple)[0]
        kind = "closed form" if law.closed_form else "with splines"
        console.print(f"  {folder / 'network.png'}\n  formula ({kind}):")
        console.print(f"  {data.outputs[0]} = {law.text}", style="bold", soft_wrap=True)
    with _step(console, f"{count}-fold cross-validation: everything above again, each time with one fold held out"):
        predicted = list(predict_folds(data, count))
        scores = [r_squared(answers, held) for answers, held in predicted]
        answers = np.concatenate([answers for answers, _ in predicted])
        intervals = conformal_intervals(answers[:, None], np.concatenate([held.y for _, held in predicted]))
        listed = ", ".join(f"{r2:.4f}" for r2 in scores)
        console.print(f"  r² of the formula on the held-out folds: {listed}", soft_wrap=True)
        console.print(f"  mean r² {np.mean(scores):.4f}", style="bold")
    with _step(console, "export and publish ONNX, C and NumPy, each checked against the network"):
        models = folder / "models"
        for name, kind in MODELS.items():
            options = ExportOptions(intervals=intervals)
            artifact = compile_kan(simple, [kind], name=name, data=data, options=options, provenance=NOTES)
            version = repository.publish(models, name, artifact)
            write_files(folder / "exported" / kind, artifact.part(kind))
            size = sum(len(content) for content in artifact.part(kind).values())
            console.print(f"  {models / name / str(version)}: {kind}, {size / 1024:.1f} KiB")
    with _step(console, "serve the three and call them with tritonclient"), _server(models, port) as address:
        _compare(console, address, simple, data)
        with Client(address) as client:
            served = client.formula("knots-c")[0]
        console.print(f"  GetFormula answers (r² {served.r2:.4f} on all rows):")
        console.print(f"  {data.outputs[0]} = {served.text}", style="bold", soft_wrap=True)
        if keep_serving:
            with _interrupt_by_sigterm():
                console.print(
                    f"  serving on {address} until Ctrl-C; try: kanserve inspect {folder / 'knots.safetensors'}"
                )
                signal.pause()


def cross_validate(data: Dataset, count: int = FOLDS, seed: int = 0) -> Iterator[float]:
    """For each fold, the R² on it of the formula that the whole procedure finds on the other folds."""
    for answers, held in predict_folds(data, count, seed):
        yield r_squared(answers, held)


def predict_folds(data: Dataset, count: int = FOLDS, seed: int = 0) -> Iterator[tuple[Array, Dataset]]:
    """For each fold, the predictions (N,) of the formula found on the other folds, and the fold itself."""
    for rest, held in folds(data, count, seed):
        kan = simplify(fit([len(data.inputs), PRODUCT], rest, seed=seed), rest, all_edges=True, seed=seed)
        law = formulas(kan)[0]
        yield evaluate_tree(law.tree, law.tables, held.x), held


def folds(data: Dataset, count: int = FOLDS, seed: int = 0) -> Iterator[tuple[Dataset, Dataset]]:
    """Split the data into `count` random parts; yields for each part (the rest, the part)."""
    order = np.random.default_rng(seed).permutation(len(data))
    for held in np.array_split(order, count):
        yield data.take(np.setdiff1d(order, held)), data.take(np.sort(held))


def r_squared(got: Array, data: Dataset) -> float:
    """The R² of predictions (N,) of the first output of `data`."""
    want = data.y[:, 0]
    return float(1 - ((got - want) ** 2).sum() / ((want - want.mean()) ** 2).sum())


def _check_extras() -> None:
    """Raise MissingDependencyError before the work starts, not halfway through."""
    for package in ("matplotlib", "onnx", "onnxruntime", "tritonclient"):
        if find_spec(package) is None:
            raise MissingDependencyError(package, "demo")


def _fresh(folder: Path) -> None:
    """Create an empty folder. The output of an earlier demo is replaced, other files are not."""
    if folder.exists() and not folder.is_dir():
        raise ConflictError(f"{folder} is a file; choose a folder with --folder.")
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise ConflictError(f"{folder} is not empty and not an earlier demo's; choose another with --folder.")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("kanserve demo replaces this folder at each run.\n")


@contextmanager
def _step(console: Console, title: str) -> Iterator[None]:
    console.print(f"\n{title}", style="bold cyan")
    started = time.perf_counter()
    yield
    console.print(f"  ({time.perf_counter() - started:.1f} s)", style="dim")


def _picture(kan: Kan, data: Dataset, path: Path) -> None:
    figure: Any = plot_network(kan, data.x).figure  # matplotlib's types allow a figure inside a figure here
    figure.savefig(path, dpi=150)
    figure.savefig(path.with_suffix(".svg"))


@contextmanager
def _server(models: Path, port: int) -> Iterator[str]:
    """A server process, ready when the context is entered and stopped cleanly at its end."""
    command = [sys.executable, "-m", "kanserve", "serve", str(models), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stderr is not None  # PIPE above
        yield _address(process.stderr)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    if process.returncode != 0:
        raise KanserveError(f"The server ended with exit code {process.returncode} instead of 0.")


def _address(lines: Iterable[str]) -> str:
    """Read a server's log until it says that it is serving, and return the address. Raises KanserveError with the
    last log line if the server does not start."""
    line = ""
    for logged in lines:
        line = logged.strip().removeprefix("kanserve: ")
        if line.startswith("serving "):
            return line.rsplit(" on ", 1)[1]
    raise KanserveError(line or "The server did not start.")


@contextmanager
def _interrupt_by_sigterm() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block normally."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    with suppress(KeyboardInterrupt):
        yield


def _compare(console: Console, address: str, kan: Kan, data: Dataset) -> None:
    """Print a table for a dozen knots: the true signature next to the prediction of each form of the model."""
    import tritonclient.grpc as triton

    rows = np.linspace(0, len(data) - 1, 12).astype(int)
    x = data.x[rows]
    columns: dict[str, Array] = {}
    with triton.InferenceServerClient(address) as client:
        for name, kind in MODELS.items():
            tensor = triton.InferInput("x", list(x.shape), "FP64")
            tensor.set_data_from_numpy(x)
            columns[kind.removesuffix("_source").removesuffix("_graph")] = client.infer(name, [tensor]).as_numpy("y")[
                :, 0
            ]
    law = formulas(kan)[0]
    columns["formula"] = evaluate_tree(law.tree, law.tables, x)
    table = Table("knot", data.outputs[0], *columns, box=None, pad_edge=False)
    for n, row in enumerate(rows.tolist()):
        answers = [f"{column[n]:.9f}" for column in columns.values()]
        table.add_row(knot_names()[row], f"{data.y[row, 0]:.0f}", *answers)
    console.print(table)
    want = evaluate.evaluate(kan, x)[:, 0]
    worst = max(float(np.abs(column - want).max()) for column in columns.values())
    if not worst <= 1e-9 * float(np.abs(want).max()):
        raise KanserveError(f"The forms of the model differ by {worst:.1e}; they must agree.")
    console.print(f"  largest difference from the network: {worst:.1e}")
