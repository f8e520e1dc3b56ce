"""A repository to serve: models of the zoo, and one whose own code waits or breaks when a row tells it to.

An artifact's NumPy module is code, so that a slow or a faulty model needs no server but the real one.
"""

import functools
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kanserve import formula, repository
from kanserve.artifact.format import Artifact, assemble
from kanserve.artifact_compiler import compile, golden_rows
from kanserve.data.dataset import Dataset
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.network.training_range import sample
from tests.support import programs
from tests.support.made_once import made_once
from tests.support.networks import kans

Array = NDArray[np.float64]


def wide() -> Kan:
    """More inputs and outputs than a vector register holds, in one layer: formulas of two would be 500 terms long."""
    return Kan((kans._random(30, 24, 24, intervals=8),))


KANS = {
    "raw": kans.raw_features,
    "single": kans.raw_features,  # in float
    "iris": kans.classifier,
    "graph": kans.symbolic,  # as ONNX only
    "wide": wide,
    "mixed": kans.mixed,
    "table": kans.categories,
}
WAIT, BREAK, ENDLESS = 1234.5, 4321.5, 54321.5  # first value of the first row


def kan(name: str) -> Kan:
    return KANS[name]()


@functools.cache
def folder() -> Path:
    """The repository, made once; read it, do not change it."""
    return made_once("repository", _publish)


def _publish(root: Path) -> None:
    for name in KANS:
        repository.publish(root, name, artifact(name))


@functools.cache
def artifact(name: str) -> Artifact:
    made: Artifact = pickle.loads(
        made_once(f"artifact-{name}", lambda path: path.write_bytes(_compiled(name))).read_bytes()
    )
    return made


def _compiled(name: str) -> bytes:
    network = kan(name)
    kinds = {"graph": ("onnx_graph",), "raw": ("c_source", "onnx_graph"), "mixed": ("numpy_source",)}
    compiled = compile(
        network,
        kinds.get(name, ("c_source",)),
        name=name,
        precision="float" if name == "single" else "double",
        data=noisy(network) if name == "raw" else None,
    )
    return pickle.dumps(compiled)


def noisy(network: Kan) -> Dataset:
    """Rows that the network fits, but not exactly."""
    x = sample(network, 50, seed=1)
    y = evaluate(network, x)
    return Dataset(x, y + 0.1 * y.std(axis=0) * np.sin(np.arange(50))[:, None])


def loading(fifo: Path) -> Artifact:
    """A model that cannot be loaded before `fifo` has been read to its end."""
    return _with_code(f"with open({str(fifo)!r}) as gate:\n    gate.read()\n")


def large(megabytes: int) -> Artifact:
    """A model that takes so much memory."""
    return _with_code(f"import numpy\nBALLAST = numpy.ones({megabytes} * 125_000)\n")


def fatal(flag: Path = Path("/")) -> Artifact:
    """A model that ends the process which loads it, as long as there is a file."""
    return _with_code(f"import os\nif os.path.exists({str(flag)!r}):\n    os.abort()\n")


def doing(code: str) -> Artifact:
    """A model that does this when it is loaded."""
    return _with_code(code)


def sleeping(seconds: float) -> Artifact:
    """A model with one input that takes its time for each request, once it is loaded."""
    return _with_code(f"""
import time

_answer = predict

def predict(x):
    time.sleep({seconds} if len(x) == 1 and x[0, 0] == 0 else 0)
    return _answer(x)
""")


def held(folder: Path) -> Artifact:
    """A model with one input that makes a file in `folder` for each request of WAIT, and answers once "go" is there."""
    return _with_code(f"""
import os
import tempfile
import time

_answer = predict

def predict(x):
    if len(x) and x[0, 0] == {WAIT}:
        os.close(tempfile.mkstemp(prefix="call", dir={str(folder)!r})[0])
        while not os.path.exists({str(folder / "go")!r}):
            time.sleep(0.005)
    return _answer(x)
""")


def waiting(fifo: Path) -> Artifact:
    """A model with one input that reads `fifo` to its end before it answers WAIT, and raises at BREAK."""
    return _with_code(f"""
_answer = predict

def predict(x):
    if len(x) and x[0, 0] == {WAIT}:
        with open({str(fifo)!r}) as gate:
            gate.read()
    if len(x) and x[0, 0] == {BREAK}:
        raise RuntimeError("a secret of /the/host")
    return _answer(x)
""")


def slow(root: Path) -> tuple[Path, Path]:
    """A repository with the model "slow", which waits or breaks, and the FIFO that it waits for."""
    fifo = root / "fifo"
    os.mkfifo(fifo)
    repository.publish(root / "models", "slow", waiting(fifo))
    return root / "models", fifo


def busy() -> Artifact:
    """A model with one input that computes for eight milliseconds or so without the interpreter's lock."""
    return _with_code("""
import numpy
_answer, _matrix = predict, numpy.eye(256)

def predict(x):
    for _ in range(16):
        _matrix @ _matrix
    return _answer(x)
""")


def _with_code(addition: str) -> Artifact:
    network = kans.one_edge()
    made = compile(network, ("numpy_source",))
    (path,) = (file for file in made.files if file.startswith("numpy_source/"))
    return assemble(
        network,
        {path: made.files[path] + addition.encode()},
        formulas=formula.to_json(formula.formulas(network)),
        golden=golden_rows(network),
    )


def infer_request(model: str, x: np.ndarray) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=x.shape)
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[x.tobytes()])


def endless(folder: Path) -> Artifact:
    """The model "raw" in C, which computes without end at a first input of ENDLESS; `folder` is for its compilation."""
    good = artifact("raw")
    files = {path: data for path, data in good.files.items() if path.startswith("c_source/")}
    begin = b"raw_predict(const raw_real x[raw_N_IN], raw_real y[raw_N_OUT])\n{\n"
    loop = f"    for (volatile double at = x[0]; at == {ENDLESS};) continue;\n".encode()
    assert begin in files["c_source/raw.c"]
    files["c_source/raw.c"] = files["c_source/raw.c"].replace(begin, begin + loop)
    for path in ("c_source/raw.c", "c_source/raw.h"):
        (folder / Path(path).name).write_bytes(files[path])
    library = next(path for path in files if path.endswith(".so"))
    command = [programs.want("gcc"), "-O2", "-shared", "-fPIC", "raw.c", "-lm", "-o", "raw.so"]
    subprocess.run(command, cwd=folder, check=True)
    files[library] = (folder / "raw.so").read_bytes()
    return assemble(good.kan(), files, formulas=good.formulas, golden=good.golden())
