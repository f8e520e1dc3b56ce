"""The road from a table to a published model that a client asks, in the studio's page, by pointer or by keys alone.

python -m tests.support.peers.studio_road [TABLE..]    # how long the first view, sliders and candidates take
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from kanserve.serve.settings import Settings
from kanserve.studio.opened_model import choose_table
from kanserve.studio.table_choice import example
from tests.support.peers.studio_pages import chromium, until, violations
from tests.support.servers import server_process
from tests.support.servers.studios import Running, running

LONGEST_SECONDS = 400
MOST_TABS = 600  # presses of the key until what is looked for has the focus


@dataclass
class Figures:
    """What was seen on the road."""

    rows: int = 0
    edges: int = 0
    fit_seconds: float = 0.0
    view_seconds: float = 0.0
    slider_p95: float = 0.0
    candidates_seconds: float = 0.0
    least_formula: float = 0.0
    violations: list[Any] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    answer: str = ""


def houses(folder: Path) -> tuple[Path, str]:
    """Categories, and missing values."""
    return example(folder, "houses"), "price"


def flowers(folder: Path) -> tuple[Path, str]:
    """Classes."""
    return example(folder, "flowers"), "kind"


def wide(folder: Path) -> tuple[Path, str]:
    """Thirty columns, of which three count."""
    x = np.random.default_rng(1).normal(size=(400, 30))
    y = np.sin(2 * x[:, 3]) + x[:, 11] ** 2 + x[:, 20]
    return written(folder, "wide", np.column_stack([x, y]), [*(f"sensor_{n}_reading" for n in range(30)), "demand"])


def tall(folder: Path) -> tuple[Path, str]:
    """200,000 rows."""
    x = np.random.default_rng(2).uniform(0, 1, (200_000, 4))
    y = np.exp(-2 * x[:, 0]) * x[:, 1] + x[:, 2] + np.random.default_rng(3).normal(0, 0.02, len(x))
    return written(folder, "tall", np.column_stack([x, y]), ["a", "b", "c", "d", "y"])


def digits(folder: Path) -> tuple[Path, str]:
    """Images of 8 by 8 pixels in ten classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return written(folder, "digits", np.column_stack([x, y]), [*(f"p{n}" for n in range(64)), "digit"])


TABLES: tuple[Callable[[Path], tuple[Path, str]], ...] = (houses, flowers, wide, tall, digits)


def written(folder: Path, name: str, values: Any, names: list[str]) -> tuple[Path, str]:
    path = folder / f"{name}.csv"
    np.savetxt(path, values, "%.6g", delimiter=",", header=",".join(names), comments="")
    return path, names[-1]


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until the element has the focus, as somebody does who has no pointer."""
    for _ in range(MOST_TABS):
        if page.evaluate(f"document.activeElement.matches({selector!r})"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {selector}.")


def opened(page: Any, table: Path, target: str, keys: bool) -> None:
    """From the first page to the fit of the target from every other column."""
    page.wait_for_selector(".drop")
    if keys:
        tab_to(page, ".path input")
        page.keyboard.type(str(table))
        page.keyboard.press("Enter")
    else:
        page.set_input_files(".drop input", table)
    page.wait_for_selector(".columns tbody tr")
    shown = page.input_value("select[aria-label='The column to learn']")
    if shown != target and keys:
        tab_to(page, "select[aria-label='The column to learn']")
        page.keyboard.type(target)
    elif shown != target:
        page.select_option("select[aria-label='The column to learn']", target)
    until(page, "!document.querySelector('.choose-row .button.main').disabled")
    if keys:
        tab_to(page, ".choose-row .button.main")
        page.keyboard.press("Enter")
    else:
        page.click(".choose-row .button.main")


def has_candidates(page: Any) -> bool:
    """Whether the functions for the edge are there within half a minute: with ten classes they take longer."""
    for _ in range(300):
        if page.locator(".choice").count():
            return True
        page.wait_for_timeout(100)
    return False


def simplified(page: Any, keys: bool) -> None:
    """Remove the least edge, and replace the largest by the function that is proposed, if there is one."""
    steps = "document.querySelectorAll('.steps li:not(.first):not(.now) code').length"
    page.wait_for_selector(".choice, .choices, .side .empty")
    if keys:
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("k")
        page.keyboard.press("0")
    else:
        page.click(".net .segments >> text=Table")
        page.click(".plain-table tbody tr:last-child button")
        page.click("section[aria-label='Edge inspector'] >> text=Remove")
    until(page, f"{steps} === 1")
    until(page, "!document.querySelector('.top .pill[role=status]')")
    if not has_candidates(page):
        return
    if keys:
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("Enter")
    else:
        page.dblclick(".choice.on")
    until(page, f"{steps} === 2")
    until(page, "!document.querySelector('.top .pill[role=status]')")


def published(page: Any, folder: Path, name: str, keys: bool) -> None:
    """Publish into a folder under a name."""
    if keys:
        tab_to(page, ".top .button.main")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]")
        for text in (str(folder), name):
            tab_to(page, "dialog input:not([data-typed])")
            page.evaluate("document.activeElement.dataset.typed = 1")
            page.keyboard.press("Control+a")
            page.keyboard.type(text)
        page.keyboard.press("Enter")
    else:
        page.click(".top .button.main")
        page.fill("dialog input >> nth=0", str(folder))
        page.fill("dialog input >> nth=1", name)
        page.click("dialog .button.main")
    page.wait_for_selector("dialog .segments, dialog .fault:not(:empty)")
    assert page.locator("dialog .segments").count(), page.inner_text("dialog")


def asked(page: Any, address: str, keys: bool) -> str:
    """What the server answers to the row at the sliders, beside the page's."""
    if keys:
        tab_to(page, "dialog .segments button:last-child")
        page.keyboard.press("Enter")
        tab_to(page, "dialog .try input")
        page.keyboard.press("Control+a")
        page.keyboard.type(address)
        page.keyboard.press("Enter")
    else:
        page.click("dialog >> text=Try it")
        page.fill("dialog .try input", address)
        page.click("dialog >> text=Ask the server")
    page.wait_for_selector("[data-testid=asked], dialog .fault:not(:empty)")
    return str(page.inner_text("dialog .try"))


SLIDER = """async () => {
  const slider = document.querySelector('.slider');
  const times = [];
  const count = () => performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/predict')).length;
  for (let n = 0; n < 60; n++) {
    const [begun, before] = [performance.now(), count()];
    const key = n % 20 < 10 ? 'ArrowRight' : 'ArrowLeft';
    slider.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
    while (count() === before && performance.now() - begun < 2000) await new Promise((done) => setTimeout(done, 1));
    times.push(performance.now() - begun);
  }
  return times;
}"""


def measured(page: Any, studio: Running, figures: Figures) -> None:
    """How long the first view takes, an answer to a slider and the candidates of an edge; sizes of the formula, axe."""
    page.goto("about:blank")
    begun = time.perf_counter()
    page.goto(studio.studio.address)
    page.wait_for_selector(".net .tile")
    figures.view_seconds = time.perf_counter() - begun
    found = has_candidates(page)
    page.evaluate("performance.setResourceTimingBufferSize(5000)")
    if page.locator(".slider").count():
        figures.slider_p95 = statistics.quantiles(page.evaluate(SLIDER), n=20)[-1]
    page.evaluate("document.activeElement.blur()")
    for _ in range(4 if found else 0):
        page.keyboard.press("j")
        has_candidates(page)
    took = page.evaluate(
        "performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/candidates')).map((e) => e.duration)"
    )
    figures.candidates_seconds = statistics.median(took[1:] or took or [np.nan]) / 1000
    sizes = []
    for view in ("Flow", "Matrix", "Table"):
        page.click(f".net .segments >> text={view}")
        sizes += page.eval_on_selector_all(
            ".formula-line .katex, .formula-line .mtight",
            "all => all.map((e) => parseFloat(getComputedStyle(e).fontSize))",
        )
        figures.violations += violations(page)
    figures.least_formula = min(sizes, default=0.0)


@contextmanager
def page_in(browser: Any, studio: Running, figures: Figures) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(1000 * LONGEST_SECONDS)
    page.on("pageerror", lambda error: figures.faults.append(str(error)))
    page.goto(studio.studio.address)
    yield page
    page.close()


def road(browser: Any, table: Callable[[Path], tuple[Path, str]], keys: bool, folder: Path) -> Figures:
    """The whole road of one table."""
    figures = Figures()
    path, target = table(folder)
    repository = folder / "models"
    with running(choose_table(), None) as studio, page_in(browser, studio, figures) as page:
        opened(page, path, target, keys)
        begun = time.perf_counter()
        page.wait_for_selector(".net .tile, .first-fit .fault")
        figures.fit_seconds = time.perf_counter() - begun
        simplified(page, keys)
        data = studio.studio.workspace.opened.data
        assert data is not None
        figures.rows, figures.edges = len(data), studio.studio.workspace.session.kan.edges
        published(page, repository, table.__name__, keys)
        with server_process.served(Settings(str(repository), port=0)) as (_, address):
            figures.answer = asked(page, address, keys)
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        measured(page, studio, figures)
    return figures


def main() -> None:
    wanted = sys.argv[1:] or [table.__name__ for table in TABLES]
    with chromium() as browser:
        for table in (table for table in TABLES if table.__name__ in wanted):
            for keys in (False, True):
                with TemporaryDirectory() as folder:
                    now = road(browser, table, keys, Path(folder))
                    print(
                        f"{table.__name__:8} {'keys' if keys else 'pointer':8} {now.rows:7} rows {now.edges:4} edges, "
                        f"fit {now.fit_seconds:5.1f} s, view {now.view_seconds:.2f} s, "
                        f"slider p95 {now.slider_p95:.0f} ms, candidates {now.candidates_seconds:.2f} s, "
                        f"formula {now.least_formula:.1f} px, axe {len(now.violations)}, "
                        f"{'the same' if 'the same' in now.answer else now.answer!r}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
