"""The widget in JupyterLab itself, in the machine's Chromium: `make test-notebook` installs what it needs."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.servers.studios import CHROMIUM, needs_browser

pytest.importorskip("jupyterlab")
pytest.importorskip("anywidget")

pytestmark = [pytest.mark.slow, pytest.mark.extended]

CELLS = (
    f"""
import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "exporters")!r}]
import kanserve
from tests.support.sessions import law
kan, data = law()
session = kanserve.Session(kan, data)
session.widget()
""",
    "print(*(done.step for done in session.history), sep='; ')",
    "kan.plot()",
)
X = ".tile[data-edge='x->h1']"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """JupyterLab with a notebook of these cells, all its settings in a folder of its own."""
    import nbformat

    needs_browser()
    folder = tmp_path_factory.mktemp("jupyter")
    (folder / "notebooks").mkdir()
    cells = [nbformat.v4.new_code_cell(code.strip()) for code in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "notebooks" / "studio.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ServerApp.port_retries=0"]
    command += ["--IdentityProvider.token=test", f"--ServerApp.root_dir={folder / 'notebooks'}", "--allow-root"]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, env={**os.environ, **own, "IPYTHONDIR": str(folder)}, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token=test", server, folder / "log")
        yield f"http://127.0.0.1:{port}/lab/workspaces/test/tree/studio.ipynb?token=test&reset"
    finally:
        server.terminate()
        server.wait(60)


def _wait_for(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    import threading

    pause = threading.Event()
    for _ in range(600):
        try:
            with urllib.request.urlopen(address) as answer:
                assert json.load(answer)["version"]
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            pause.wait(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    path = needs_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        opened = browser.new_page(viewport={"width": 1500, "height": 1800})
        faults: list[str] = []
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.goto(address)
        yield opened
        browser.close()
    assert faults == []


def test_an_edge_is_clicked_snapped_and_undone_in_jupyterlab(page: Any):
    page.set_default_timeout(120_000)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector("text=Python 3 >> nth=0")
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    page.wait_for_selector(".choice")
    assert page.locator(".kanserve-picture svg").count() == 1  # kan.plot() as the last line
    formula = page.inner_text("[data-testid=formula]")
    page.click(X)
    page.wait_for_selector(".choice >> nth=2")
    page.click("text=Snap to sin")
    page.wait_for_selector(f"{X}.snapped")
    assert page.inner_text("[data-testid=formula]") != formula
    page.wait_for_selector("button[aria-label=Undo]:not(:disabled)")

    # the keys of the cell are not JupyterLab's: 0 0 would restart the kernel
    page.focus(X)
    page.keyboard.press("0")
    page.wait_for_selector(X, state="detached")
    page.wait_for_selector("button[aria-label=Undo]:not(:disabled)")
    page.keyboard.press("Control+z")
    page.wait_for_selector(f"{X}.snapped")

    page.click(".jp-Cell >> nth=1")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=snap('x->h1', 'sin')")
    page.wait_for_selector("button[aria-label=Undo]:not(:disabled)")
    page.click("button[aria-label=Undo]")
    page.wait_for_selector(f"{X}.snapped", state="detached")
    assert page.inner_text("[data-testid=formula]") == formula
