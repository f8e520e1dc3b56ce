"""The memory that a large batch leaves behind in onnxruntime."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan, make_layer
from kanserve_exporters.onnx_graph import export


@pytest.mark.timing
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_call_of_many_rows_keeps_little_memory_in_stock_onnxruntime(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    layers = (make_layer(random.normal(size=(o, i, 8))) for i, o in ((64, 64), (64, 10)))
    (tmp_path / "model.onnx").write_bytes(export(Kan(tuple(layers)), ExportOptions())["model.onnx"])
    program = """
        import sys
        from pathlib import Path
        import numpy as np
        from kanserve.runtime import onnx_backend

        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

        backend = onnx_backend.load({"model.onnx": Path(sys.argv[1]).read_bytes()})
        x = np.random.default_rng(0).uniform(-1, 1, (4096, 64))
        backend.predict(x[:16])
        before = resident()
        backend.predict(x)
        print(resident() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "model.onnx")]
    environment = os.environ | {"KANSERVE_NATIVE": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 12e6  # about 5 MB, and 25 MB where onnxruntime keeps what it had
