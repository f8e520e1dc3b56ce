"""The studio's page in the machine's Chromium, and what tests of it wait for.

python -m tests.support.peers.studio_pages    # writes the pictures of the studio in docs
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import kanserve
from kanserve.studio.opened_model import Opened, choose_table
from tests.support.paths import DOCS, ROOT
from tests.support.servers.studios import CHROMIUM, Running, needs_browser, running
from tests.support.sessions import law

PATIENCE_SECONDS = 120
"""For what the page waits for: a busy machine takes longer than the 30 that are playwright's own."""
AXE = ROOT / "studio" / "node_modules" / "axe-core" / "axe.min.js"


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    path = needs_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        yield opened
        opened.close()


@contextmanager
def page_of(browser: Any, root: Path, theme: str = "light", server: str = "", width: int = 1400) -> Iterator[Any]:
    """The page of a studio on the newest version, and the studio; nothing may fail in its console."""
    kan, data = law()
    opened = Opened(kan, "law", data, repository=str(root), name="law", version=1)
    with running(opened, None, server) as studio:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.extend([message.text] if message.type == "error" else []))
        page.goto(studio.studio.address)
        page.wait_for_selector(".choice")
        yield page, studio
        context.close()
    assert faults == []


def saved(studio: Running) -> kanserve.Kan:
    kan: kanserve.Kan = studio.studio.workspace.session.kan
    return kan


def settled(page: Any, steps: int) -> None:
    """Wait until the page shows so many steps, and the candidates of the network after them."""
    until(page, f"document.querySelectorAll('.steps li:not(.first):not(.now) code').length === {steps}")
    page.wait_for_selector(".choice")


def until(page: Any, condition: str) -> None:
    """Wait for a condition in the page, whose policy allows no eval, by which playwright itself would wait."""
    for _ in range(PATIENCE_SECONDS * 20):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


def violations(page: Any) -> list[tuple[str, list[str]]]:
    """What axe-core finds in the page, by rule."""
    if not AXE.is_file():
        pytest.skip("needs npm: 'make studio' has not installed axe-core")
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations)")
    return [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found]


def main() -> None:
    """Take the pictures of the README and of docs/studio.md from the page as it is, of a table that it offers."""
    with TemporaryDirectory() as folder, running(choose_table(), None) as studio, chromium() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1000}, color_scheme="light")
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.goto(studio.studio.address)
        page.click("text=Houses")
        page.wait_for_selector(".columns tbody tr")
        page.locator(".choose").screenshot(path=DOCS / "studio-choose.png")
        page.click(".choose-row .button.main")
        page.wait_for_selector(".choice")
        page.wait_for_selector(".ruler-track:not(.off)")
        track = page.locator(".ruler-track").bounding_box()
        page.mouse.move(track["x"] + 13, track["y"] + 30)
        page.mouse.down()
        page.mouse.move(track["x"] + track["width"] * 0.5, track["y"] + 30, steps=5)
        page.screenshot(
            path=DOCS / "studio-prune.png", clip={"x": 0, "y": 52, "width": 1224, "height": track["y"] + 26}
        )
        page.keyboard.press("Escape")
        page.mouse.move(track["x"] + 13, track["y"] + 30, steps=5)
        page.mouse.up()
        page.click(".ruler >> text=Simplify")
        page.wait_for_selector(".simplifying")
        until(page, "!document.querySelector('.simplifying')")
        page.wait_for_selector(".choice")
        page.wait_for_selector(".constants")
        page.wait_for_timeout(20_000)  # the search
        page.select_option("select[aria-label=energy]", "B")
        page.wait_for_timeout(500)
        page.screenshot(path=DOCS / "studio-light.png")
        page.locator(".formula").screenshot(path=DOCS / "studio-formula.png")
        page.click("button[aria-label='Dark theme']")
        page.wait_for_timeout(500)
        page.screenshot(path=DOCS / "studio-dark.png")
        page.click("button[aria-label='Light theme']")
        page.click(".top .button.main")
        page.fill("dialog input >> nth=0", str(Path(folder, "models")))
        page.fill("dialog input >> nth=1", "houses")
        page.click("dialog .button.main")
        page.wait_for_selector("dialog .segments")
        page.click("dialog .segments >> text=Python client")
        page.evaluate("document.querySelector('dialog code').textContent = 'models'")
        page.locator("dialog").screenshot(path=DOCS / "studio-publish.png")


if __name__ == "__main__":
    main()
