"""A network as one HTML file: small, without a row of the data, and right in a browser that has no network."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.data.dataset import Dataset
from kanserve.errors import InputError
from kanserve.network.evaluate import evaluate
from kanserve.studio.calls import Calls
from kanserve.studio.opened_model import Opened
from kanserve.studio.workspace import Workspace
from tests.support.paths import ROOT
from tests.support.peers.studio_pages import chromium, until
from tests.support.servers.studios import needs_page

MOST_BYTES = 1_000_000
PRICE = 987654.321  # of one row: it must not be in the page

ENVIRONMENT = {"PYTHONPATH": f"{ROOT}:{ROOT / 'exporters'}", "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.slow


def shared(kan: kanserve.Kan, data: Dataset | None, title: str = "houses") -> str:
    needs_page()
    workspace = Workspace(Opened(kan, title, data, repository="/secret/place", load="kanserve.load('/secret/place')"))
    try:
        return Calls(workspace).shared_page()
    finally:
        workspace.close()


def five() -> tuple[kanserve.Kan, Dataset]:
    x = np.random.default_rng(0).uniform(1, 9, (300, 5))
    y = 20 * np.log(x[:, 0]) * x[:, 1] + x[:, 2]
    y[7] = PRICE
    return kanserve.create([5, 5, 1], seed=1), Dataset(x, y, tuple("abcde"), ("price",))


def test_a_page_is_small_and_asks_nobody_and_has_no_row_and_no_path():
    page = shared(*five())
    assert len(page.encode()) <= MOST_BYTES
    addresses = set(re.findall(r"(?:src|href|url\()=?[\"']?(https?:[^\"')]+)", page))
    assert addresses == set() and "/secret/place" not in page and str(PRICE) not in page


def test_a_name_that_would_end_the_script_is_text():
    kan, data = five()
    page = shared(kan, data, "</script><script>document.title = 1</script>")
    assert page.count("</script>") == 2 and "<script>document" not in page


def test_the_command_writes_the_page_of_a_network_and_says_how_large_it_is(tmp_path: Path):
    needs_page()
    kan, _ = five()
    kan.save(tmp_path / "kan.safetensors")
    command = [sys.executable, "-m", "kanserve", "share", "kan.safetensors", "-o", "houses.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    written = (tmp_path / "houses.html").read_text("utf-8")
    assert "houses.html: " in done.stdout and "kB" in done.stdout
    assert written.startswith("<!doctype html>") and "<title>kan</title>" in written
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert again.returncode != 0 and "houses.html is there already" in again.stderr
    assert (tmp_path / "houses.html").read_text("utf-8") == written
    subprocess.run([*command, "--force"], cwd=tmp_path, capture_output=True, check=True, env=ENVIRONMENT)


def test_a_network_of_many_edges_is_refused():
    with pytest.raises(InputError, match="at most 500 edges"):
        shared(kanserve.create([30, 20, 1]), None)


@pytest.mark.extended
def test_its_sliders_give_the_networks_predictions_offline(tmp_path: Path):
    kan, data = five()
    (tmp_path / "houses.html").write_text(shared(kan, data), "utf-8")
    with chromium() as browser:
        context = browser.new_context(offline=True)
        page: Any = context.new_page()
        faults: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url[:5]))
        page.goto((tmp_path / "houses.html").as_uri())
        until(page, "!!document.querySelector('[data-testid=prediction]:not(.waiting)')")
        text = page.inner_text("[data-testid=prediction]").replace("\u2212", "-")
        shown = float(re.split("[^-0-9.e]", text)[0])
        judge = Workspace(Opened(kan, "houses", data))
        middle = np.array([node.middle for node in judge.view().nodes[0]])
        judge.close()
        np.testing.assert_allclose(shown, evaluate(kan, [middle])[0, 0], rtol=2e-3)
        before = page.inner_text("[data-testid=prediction]")
        page.focus(".slider >> nth=0")
        page.keyboard.press("PageUp")
        until(page, f"document.querySelector('[data-testid=prediction]').innerText !== {before!r}")
        context.close()
    assert faults == [] and set(asked) <= {"file:", "data:"}
