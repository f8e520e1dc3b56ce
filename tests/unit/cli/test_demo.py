import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from kanserve.client import Client
from kanserve.data.datasets import load_knots
from kanserve.network.evaluate import evaluate
from kanserve.network.serialization import load


@pytest.mark.slow
@pytest.mark.extended
def test_the_demo_does_what_the_readme_says_and_stops_cleanly(tmp_path):
    folder = tmp_path / "demo"
    command = [sys.executable, "-W", "error", "-m", "kanserve", "demo", "--folder", str(folder), "--keep-serving"]
    command += ["--folds", "2"]  # make run has five, and takes four times as long for them
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("  serving on "):
            break
    try:
        address = said[-1].split()[2]
        data = load_knots()
        with Client(address) as client:
            got = client.predict("knots-c", data.x)
            formula = client.formula("knots-numpy")[0]
    finally:
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert "Traceback" not in complaints
    kan, text = load(folder / "knots.safetensors"), "".join(said)
    want = evaluate(kan, data.x)
    assert np.abs(got - want).max() <= 1e-12 * np.abs(want).max()
    mean = re.search(r"mean r² (0\.\d+)", text)
    assert mean is not None and float(mean[1]) >= 0.93
    assert formula.closed_form and f"signature = {formula.text}" in text
    assert all((folder / "exported" / kind).is_dir() for kind in ("onnx_graph", "c_source", "numpy_source"))
    assert (folder / "network.png").read_bytes().startswith(b"\x89PNG")
