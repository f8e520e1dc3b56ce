"""The README and the guide that goes on from it: their blocks run in order, on another port, and search by fits."""

import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.readme_blocks import GUIDE, blocks, write_tables


@pytest.mark.slow
@pytest.mark.extended
def test_every_block_of_the_readme_and_the_guide_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tables(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    (quickstart,) = blocks("python")
    a_search, *on_the_wire = (block.replace("8001", port) for block in blocks("python", GUIDE))
    names: dict[str, Any] = {}
    exec(compile(quickstart, "README", "exec"), names)
    assert "seconds=10" in a_search
    exec(compile(a_search.replace("seconds=10", "max_fits=200"), "README", "exec"), names)
    assert names["found"].best.validation < names["found"].candidates[0].validation
    assert Path("houses.svg").exists() and Path("models/houses/1/manifest.json").exists()
    (shell,) = blocks("sh", GUIDE)
    server = None
    try:
        for line in shell.replace("8001", port).splitlines():
            words = [sys.executable, "-m", *shlex.split(line.removesuffix("&"))]
            if line.endswith("&"):
                server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
                assert server.stderr is not None and "serving 1 model" in server.stderr.readline()
                continue
            done = subprocess.run(words, capture_output=True, text=True)
            assert done.returncode == 0, (line, done.stderr)
        assert len(done.stdout.splitlines()) == 4 and done.stdout.startswith("price\n")
        for block in on_the_wire:
            exec(compile(block, "README", "exec"), names)
        assert np.asarray(names["jacobian"]).shape == (2, 1, 3)
    finally:
        if server is not None:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=300)
    assert server is not None and server.returncode == 0
