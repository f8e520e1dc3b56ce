"""A server that is asked by hostile names, and which files it opens.

`python -m tests.support.faults.opened_files ROOT COUNT` runs in a process of its own, since an audit hook cannot be
removed. It prints JSON: how many calls there were, what was opened outside of ROOT, and the answers that should not
have been.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve import server
from kanserve.serve.rpc.formula_service import FUNCTIONS
from kanserve.serve.settings import Settings
from kanserve.v1 import formula_pb2
from tests.support.faults import hostile_texts
from tests.support.faults.hostile_requests import KINDS, Sender

GOOD = "plain"  # the model that is there

_EXPECTED = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
_RUN = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "ctypes.dlopen"}
_OPENED = {
    "open",
    "os.listdir",
    "os.scandir",
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
}
# What a process asks of the system about itself.
_OWN = ("/proc/self/", "/proc/thread-self/", "/proc/stat", "/proc/meminfo", "/sys/fs/cgroup/", "/proc/cpuinfo")


def hostile_names(count: int, root: Path, good: str) -> list[str]:
    """Names that would leave `root`, or reach a model in it, if anybody made paths of them."""
    outside = root.parent / "outside" / "plain"
    away = outside.relative_to(root.parent)
    written = [
        *("..", ".", "/", "//", "../..", "...", "~", "~root", "", " ", "\0", "C:\\x", "a" * 63, "a" * 64, "a" * 10_000),
        *("/etc/passwd", "/etc/shadow", "/proc/self/environ", "/dev/zero", "/dev/stdin", "http://127.0.0.1:1/x"),
        *(
            f"{good}{end}"
            for end in ("\0", "\0/1", "/", "/1", f"/../{good}", "/.", "//", "\\1", "%2f1", "%00", "\n", " ")
        ),
        *(f"{start}{good}" for start in ("/", "./", " ", "-", "_", ".", "../models/", "s3://bucket/", "\uff0e\uff0e/")),
        *(str(outside), f"{outside}/1", f"file://{outside}", f"....//{away}", f"..;/{away}", f"\u2025/{away}"),
        *(f"..%2f{away}", f"%2e%2e/{away}", f"..\\{away}", good.upper(), good * 20, f"{good}\u2044\u0031"),
        *(f"{'../' * depth}{away}" for depth in range(1, 12)),
        *(f"{'../' * depth}etc/passwd" for depth in range(2, 12)),
        *(f"{good}/{'../' * depth}{away}/1" for depth in range(2, 12)),
    ]
    found = dict.fromkeys((*written, *hostile_texts.names(2 * count)))
    return list(found)[:count]


def requests(name: str, good: str) -> list[tuple[str, Message]]:
    """Every call that takes a text, with the name in each of its places."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 2])
    infers = [
        pb.ModelInferRequest(model_name=name, inputs=[tensor], raw_input_contents=[bytes(16)]),
        pb.ModelInferRequest(model_name=good, model_version=name, inputs=[tensor], raw_input_contents=[bytes(16)]),
        pb.ModelInferRequest(model_name=good, outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name=name)]),
    ]
    rows = formula_pb2.Float64Array(shape=[1, 2], values=bytes(16))
    protocol: list[tuple[str, Message]] = [
        ("ServerLive", pb.ServerLiveRequest()),
        ("ServerReady", pb.ServerReadyRequest()),
        ("ServerMetadata", pb.ServerMetadataRequest()),
        ("ModelReady", pb.ModelReadyRequest(name=name)),
        ("ModelReady", pb.ModelReadyRequest(name=good, version=name)),
        ("ModelMetadata", pb.ModelMetadataRequest(name=name)),
        ("ModelConfig", pb.ModelConfigRequest(name=name)),
        ("ModelStatistics", pb.ModelStatisticsRequest(name=name)),
        *(("ModelInfer", infer) for infer in infers),
        ("ModelStreamInfer", infers[0]),
        ("RepositoryIndex", pb.RepositoryIndexRequest(repository_name=name)),
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name)),
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(repository_name=name)),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name)),
    ]
    formulas: list[tuple[str, Message]] = [
        ("GetFormula", formula_pb2.GetFormulaRequest(model_name=name)),
        ("GetFormula", formula_pb2.GetFormulaRequest(model_name=good, formats=[name])),
        ("GetNetwork", formula_pb2.GetNetworkRequest(model_name=name)),
        ("Differentiate", formula_pb2.DifferentiateRequest(model_name=name, rows=rows)),
        ("Explain", formula_pb2.ExplainRequest(model_name=name, rows=rows)),
        ("GetDrift", formula_pb2.GetDriftRequest(model_name=name)),
        ("Feedback", formula_pb2.FeedbackRequest(model_name=name, rows=rows, measured=rows)),
        ("ExportSource", formula_pb2.ExportSourceRequest(model_name=name, format="c_source")),
        ("ExportSource", formula_pb2.ExportSourceRequest(model_name=good, format=name)),
        ("Watch", formula_pb2.WatchRequest(model_name=name)),
    ]
    reflection = reflection_pb2.ServerReflectionRequest
    return [
        *((f"/{wire.SERVICE_NAME}/{method}", request) for method, request in protocol),
        *((f"/{wire.FORMULA_SERVICE_NAME}/{method}", request) for method, request in formulas),
        (f"/{wire.HEALTH_SERVICE_NAME}/Check", health_pb2.HealthCheckRequest(service=name)),
        (f"/{wire.HEALTH_SERVICE_NAME}/Watch", health_pb2.HealthCheckRequest(service=name)),
        (f"/{wire.REFLECTION_SERVICE_NAME}/ServerReflectionInfo", reflection(file_by_filename=name)),
        (f"/{wire.REFLECTION_SERVICE_NAME}/ServerReflectionInfo", reflection(file_containing_symbol=name)),
    ]


def is_outside(event: str, arguments: tuple[Any, ...], root: str) -> bool:
    """Whether what the hook was told of is a file that the server has no business with."""
    if event == "ctypes.dlopen" and arguments[0] is None:
        return False  # the process itself, by which memory is given back to the system, whenever there is time for that
    if event in _RUN:
        return True
    if event not in _OPENED:
        return False
    path = arguments[0] if arguments else None
    if isinstance(path, int) or path is None:
        return False  # a file that is open already
    text = os.fsdecode(path)
    if not text.startswith("/"):
        # Below an open folder: a single name, of which none leads up.
        return "/" in text or text == ".."
    return not (text == root or text.startswith(root + "/") or text.startswith(_OWN))


class Watched:
    """What was opened outside of a folder in the blocks that were watched."""

    def __init__(self, root: str) -> None:
        self.opened: list[str] = []
        self._root, self._watching = root, False
        sys.addaudithook(self._hook)

    def __enter__(self) -> None:
        self._watching = True

    def __exit__(self, *ended: object) -> None:
        self._watching = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._watching and is_outside(event, arguments, self._root):
            self.opened.append(f"{event} {arguments[0]!r}"[:200])


def main(root: Path, count: int) -> None:
    # A watch that its client has left keeps its stream for a quarter of a second, in which a dozen more begin.
    settings = Settings(
        repository=str(root), port=0, http_port=0, anonymous=("predict", "read", "manage"), queue=64, streams=64
    )
    # A name of a format is none that is hostile to one.
    harmless = ("", GOOD, *FUNCTIONS)
    hostile_ones = [
        hostile_name
        for hostile_name in hostile_names(count + len(harmless), root, GOOD)
        if hostile_name not in harmless
    ][:count]
    wrong, methods, calls = list[str](), set[str](), 0
    with server.start(settings) as running, grpc.insecure_channel(running.address) as channel:
        sender, web = Sender(channel), f"http://{running.http_address}/v2/models/"
        _warm(sender, web)
        watched = Watched(str(root))
        for name in hostile_ones:
            for path, request in requests(name, GOOD):
                with watched:
                    code, text = _answered(sender, path, request.SerializeToString())
                calls += 1
                methods.add(path)
                if code not in _EXPECTED or (str(root.parent) in text and str(root.parent) not in name):
                    wrong.append(f"{path} {name[:60]!r}: {code} {text}")
            with watched:
                status = _status(f"{web}{quote(name, safe='')[:2000]}/ready")
            if status == 200:
                wrong.append(f"HTTP {name[:60]!r}: {status}")
        opened = list(watched.opened)
        with watched:
            (root.parent / "outside" / GOOD / "1" / "manifest.json").read_bytes()
        assert len(watched.opened) > len(opened), "it sees what it is there for"
    assert set(KINDS) == methods, set(KINDS) - methods
    found = {"names": len(hostile_ones), "calls": calls, "methods": len(methods), "opened": opened, "wrong": wrong}
    print(json.dumps(found))


def _warm(sender: Sender, web: str) -> None:
    """Call everything once, so that what is imported late is there."""
    load = pb.RepositoryModelLoadRequest(model_name=GOOD)
    for path, request in (*requests(GOOD, GOOD), *requests("none", GOOD)):
        sender.send(path, request.SerializeToString())
    sender.send(f"/{wire.SERVICE_NAME}/RepositoryModelLoad", load.SerializeToString())
    for name in ("none", GOOD):
        _status(f"{web}{name}/ready")


def _answered(sender: Sender, path: str, data: bytes) -> tuple[grpc.StatusCode, str]:
    """The code and text of an answer. A watch waits until those that their clients have left have ended: on a slow
    machine the server may hear of that later than the next ones come."""
    until = time.monotonic() + 60
    while True:
        code, text, _ = sender.send(path, data)
        late = time.monotonic() > until
        if late or code is not grpc.StatusCode.RESOURCE_EXHAUSTED or not path.endswith("/Watch"):
            return code, text
        time.sleep(0.05)


def _status(url: str) -> int:
    try:
        with urlopen(url, timeout=60) as answer:
            status: int = answer.status
            return status
    except OSError as error:
        return int(getattr(error, "code", 0) or 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
