"""What clients in the field were generated from stays valid: buf compares the protos with the released ones."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.programs import want

RELEASED = ROOT / "protos" / "released.binpb"
FORMULA, CONFIG = "protos/kanserve/v1/formula.proto", "protos/kanserve/inference/model_config.proto"
SERVICE = "protos/kanserve/inference/grpc_service.proto"


def breaking(folder: Path) -> subprocess.CompletedProcess[str]:
    buf = shutil.which("buf", path=str(Path(sys.executable).parent)) or want("buf")
    command = [buf, "breaking", "--against", str(RELEASED)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def change(copy: Path, path: str, before: str, after: str) -> subprocess.CompletedProcess[str]:
    text = (copy / path).read_text()
    assert before in text
    (copy / path).write_text(text.replace(before, after, 1))
    return breaking(copy)


def test_the_protos_are_compatible_with_what_was_released():
    done = breaking(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (FORMULA, "repeated string formats = 3;", "repeated string formats = 4;"),
        (FORMULA, "  string format = 3;\n", ""),
        (FORMULA, "bytes data = 4;", "string data = 4;"),
        (FORMULA, "bool newest = 5;", "bool latest = 5;"),
        (FORMULA, "returns (stream WatchResponse)", "returns (WatchResponse)"),
        (FORMULA, "MODEL_STATE_REMOVED = 5;", "MODEL_STATE_REMOVED = 6;"),
        (FORMULA, "optional uint32 curve_points = 3;", "uint32 curve_points = 3;"),
        (FORMULA, "package kanserve.v1;", "package kanserve.v2;"),
        (FORMULA, "  rpc Differentiate(DifferentiateRequest) returns (DifferentiateResponse) {}\n", ""),
        (SERVICE, "repeated bytes raw_input_contents = 7;", "bytes raw_input_contents = 7;"),
        (SERVICE, "string model_name = 2;", "string model_name = 4;"),
        (CONFIG, "int32 max_batch_size = 4;", "uint64 max_batch_size = 4;"),
        (CONFIG, "TYPE_FP64 = 12;", "TYPE_FP64 = 21;"),
    ],
)
def test_a_change_that_breaks_a_client_is_refused(copy, path, before, after):
    done = change(copy, path, before, after)
    assert done.returncode == 100, done.stderr  # buf's own code for it
    assert path.removeprefix("protos/") in done.stdout


def test_an_addition_breaks_nobody(copy):
    done = change(copy, FORMULA, "repeated string formats = 3;", "repeated string formats = 3;\n  bool whole = 4;")
    assert done.returncode == 0, done.stdout
