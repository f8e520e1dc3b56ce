"""docs/from-triton.md: its block runs against a server, and the flags and metrics of its table are there."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.serve.configuration import flags
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support import serving_docs
from tests.support.paths import DOCS
from tests.support.readme_blocks import blocks

PAGE = (DOCS / "from-triton.md").read_text("utf-8")


def ours() -> str:
    """The second and the third column of the table."""
    return "\n".join(" | ".join(row.split(" | ")[1:]) for row in PAGE.splitlines() if row.startswith("| "))


def test_tritons_client_works_as_the_page_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("tritonclient")
    kan = kanserve.from_formula("2000*area + 300*year + 10*rooms", inputs=["area", "rooms", "year"])
    kanserve.publish(tmp_path, "houses", kanserve.compile(kan, ["numpy_source"], name="houses"))
    names: dict[str, Any] = {}
    with start(Settings(str(tmp_path), port=0)) as server:
        (block,) = blocks("python", PAGE)
        exec(compile(block.replace("localhost:8001", server.address), "from-triton.md", "exec"), names)
        np.testing.assert_allclose(names["client"].infer("houses", [names["rows"]]).as_numpy("y"), kan(names["x"]))
        names["client"].close()


def test_each_flag_and_metric_of_the_table_is_there():
    known = {flags.flag(setting.name) for setting in flags.of_settings()}
    said = set(re.findall(r"--[a-z][a-z-]*", ours()))
    assert len(said) > 15 and said <= known | {"--config"}
    assert set(re.findall(r"kanserve_[a-z_]+", ours())) <= set(
        re.findall(r"kanserve_[a-z_]+", serving_docs.metrics_table())
    )


def test_the_tables_of_the_page_are_whole():
    assert {row.count("|") for row in PAGE.splitlines() if row.startswith("|")} == {4}
