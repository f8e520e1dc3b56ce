"""Triton's load generator, unmodified, measures the server as it would measure Triton."""

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("raw", ["-b", "1"]),
        ("graph", ["-b", "16"]),
        ("iris", ["--concurrency-range", "4:4"]),
        ("single", ["--streaming", "--async"]),
    ],
)
def test_perf_analyzer_completes_a_measurement(server, tmp_path, model, options):
    package = find_spec("perf_analyzer")
    assert package is not None and package.origin is not None
    program = Path(package.origin).parent / "bin" / "perf_analyzer"
    # Any spread will do (-s, in per cent): this asks whether it can measure, not what it measures.
    measure = ["-i", "grpc", "-u", server.address, "--measurement-interval", "100", "-s", "100000"]
    done = subprocess.run(
        [program, "-m", model, *measure, *options], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    # It exits with 0 when it fails too: what it says counts.
    assert "Throughput: " in done.stdout and "Successful request count: " in done.stdout, done.stdout + done.stderr
    assert "Failed" not in done.stdout + done.stderr
