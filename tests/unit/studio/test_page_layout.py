"""What is read on the studio's page on five tables: no text over another, none too small, the prediction at once."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.data.dataset import Dataset
from kanserve.studio.opened_model import Opened
from tests.support.peers.studio_pages import PATIENCE_SECONDS, chromium, until
from tests.support.servers.studios import Running, running

pytestmark = [pytest.mark.slow, pytest.mark.extended]

SIZES = ((1600, 1000), (1100, 860), (760, 900), (400, 800))
LEAST_TEXT = 11
LEAST_FORMULA = 12

# Boxes of texts as they are seen: what is clipped is cut off, mathematics is one box, and labels for screen readers are
# left out. Then the pairs that cover one another by more than 2 pixels both ways, and texts that are too small.
BOXES = """
(least) => {
  const seen = [];
  const shown = (element, box) => {
    let [left, top, right, bottom] = [box.left, box.top, box.right, box.bottom];
    for (let at = element; at && at !== document.documentElement; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.visibility === 'hidden' || style.display === 'none' || at.classList.contains('hidden')) return null;
      if (style.overflow === 'visible') continue;
      const own = at.getBoundingClientRect();
      [left, top] = [Math.max(left, own.left), Math.max(top, own.top)];
      [right, bottom] = [Math.min(right, own.right), Math.min(bottom, own.bottom)];
    }
    return right - left > 3 && bottom - top > 3 ? { left, top, right, bottom } : null;
  };
  const walker = document.createTreeWalker(document.querySelector('.studio'), NodeFilter.SHOW_TEXT);
  const whole = new Set();
  const small = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.textContent.trim()) continue;
    const parent = node.parentElement;
    if (parent.closest('option, noscript, script, style, title')) continue;
    const math = parent.closest('.katex');
    if (math && whole.has(math)) continue;
    if (math) whole.add(math);
    const range = document.createRange();
    range.selectNodeContents(math ?? node);
    const boxes = math ? [math.getBoundingClientRect()] : [...range.getClientRects()];
    for (const box of boxes) {
      const found = shown(parent, box);
      const text = (math ?? node).textContent.trim().slice(0, 40);
      if (found) seen.push({ ...found, text, element: math ?? parent });
    }
    const size = parseFloat(getComputedStyle(math ?? parent).fontSize);
    if (size >= least - 0.01 || !boxes.some((box) => shown(parent, box))) continue;
    small.push([parent.outerHTML.slice(0, 80), size]);
  }
  const over = [];
  for (let a = 0; a < seen.length; a++)
    for (let b = a + 1; b < seen.length; b++) {
      const [p, q] = [seen[a], seen[b]];
      if (p.element === q.element || p.element.contains(q.element) || q.element.contains(p.element)) continue;
      const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (wide > 2 && high > 2.5) over.push([p.text, q.text, Math.round(wide), Math.round(high)]);
    }
  return { over, small };
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


def numbers() -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 9, (200, 3))
    names = ("living_area_m2", "distance_to_station_km", "year_built")
    return Dataset(x, 20 * x[:, 0] * np.exp(-0.1 * x[:, 1]) + x[:, 2], names, ("price_k_eur",))


def categories() -> Dataset:
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 4, 240)
    x = np.column_stack([rng.uniform(30, 200, 240), kind, rng.uniform(0, 20, 240)])
    named = {"energy_class": ("A", "B", "very_inefficient_G", "unknown")}
    y = 2 * x[:, 0] - 12 * kind - x[:, 2]
    return Dataset(x, y, ("area", "energy_class", "distance"), ("price",), categories=named)


def missing() -> Dataset:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(240, 3))
    y = x[:, 0] ** 2 + x[:, 1]
    x[rng.random(240) < 0.1, 0] = np.nan
    return Dataset(x, y, ("pressure", "temperature", "flow"), ("output",))


def many() -> Dataset:
    """Ten inputs, of which two count: years, days and hours, as they come of dates."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 1, (300, 10)) * np.array([30, 365, 24, 1, 1, 1e5, 1e-3, 1, 1, 1]) + 1990
    names = ("year", "day_of_the_year", "hour", *(f"sensor_{n}_reading" for n in range(7)))
    return Dataset(x, np.sin(x[:, 1] / 60) + x[:, 2] / 24, names, ("demand",))


def classes() -> Dataset:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 2))
    labels = np.where(x[:, 0] + x[:, 1] ** 2 > 1, "high", np.where(x[:, 0] < -0.5, "low", "in_the_middle"))
    return Dataset(x, labels, ("temperature", "pressure"))


TABLES = {table.__name__: table for table in (numbers, categories, missing, many, classes)}


@pytest.fixture(scope="module", params=TABLES)
def opened(request: pytest.FixtureRequest) -> Iterator[Running]:
    table: Callable[[], Dataset] = TABLES[request.param]
    data = table()
    hidden = [1] if request.param == "numbers" else [2]
    kan = kanserve.fit([len(data.inputs), *hidden, data.y.shape[1]], data, grid=(5,), starts=1)
    with running(Opened(kan, request.param, data), None) as studio:
        if request.param == "numbers":
            for edge in ("living_area_m2->h1", "distance_to_station_km->h1", "year_built->h1"):
                studio.step("snap", edge=edge, function="log")
            studio.step("snap", edge="h1->price_k_eur", function="exp")
        yield studio


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_texts_are_apart_and_large_enough_and_the_prediction_is_seen_at_once(
    browser: Any, opened: Running, width: int, height: int, theme: str
):
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
    page.set_default_timeout(PATIENCE_SECONDS * 1000)
    page.goto(opened.studio.address)
    page.wait_for_selector(".choice, .choices, [aria-label='Edge inspector'] .empty")
    until(page, "!document.body.innerText.includes('≈ trying functions')")
    page.evaluate("document.fonts.ready.then(() => true)")
    for view in ("Flow", "Matrix", "Table"):
        page.click(f".net .segments >> text={view}")
        page.wait_for_timeout(150)
        found = page.evaluate(f"({BOXES})({LEAST_TEXT})")
        assert found["over"] == [], view
        assert found["small"] == [], view
        box = page.locator("[data-testid=pinned]").bounding_box()
        assert box is not None and box["y"] >= 0 and box["y"] + box["height"] <= height, view
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, view
    sizes = page.eval_on_selector_all(
        ".formula-line .katex, .formula-line .mtight", "all => all.map((e) => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert sizes and min(sizes) >= LEAST_FORMULA - 0.01
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    page.close()


@pytest.mark.parametrize("width", [1600, 1100, 760])
def test_a_matrix_of_many_inputs_is_as_wide_as_its_pane(browser: Any, width: int):
    kan = kanserve.create([30, 5, 2], seed=3)
    with running(Opened(kan, "wide"), None) as studio:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.goto(studio.studio.address)
        page.wait_for_selector(".matrix .tile")
        sides = page.evaluate(
            "[...document.querySelectorAll('.net .canvas')].map((e) => [e.scrollWidth, e.clientWidth])"
        )
        assert all(whole <= seen for whole, seen in sides)
        assert page.locator(".matrix .tile").count() == kan.edges
        page.close()


def test_values_and_long_names_are_read_whole_and_rounding_is_0(browser: Any, tmp_path: Any):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(301, 6))
    x[:, 0] -= np.median(x[:, 0]) - 2.29e-16
    names = ("meridinal_translation_real", "short_geodesic_imag_part", *(f"longitudinal_{n}" for n in range(4)))
    kan = kanserve.from_formula(
        {"signature": f"-2.955*sin(1.3*{names[0]})*(0.02*{names[1]} + {' + '.join(names[2:])})"}, inputs=names
    )
    data = Dataset(x, kan.predict(x) + rng.normal(size=(301, 1)), names, ("signature",))
    with running(Opened(kan, "knots", data), None) as studio:
        page = browser.new_page(viewport={"width": 1800, "height": 1200})
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.goto(studio.studio.address)
        page.wait_for_selector(".output .big")
        page.evaluate("document.fonts.ready.then(() => true)")
        cut = page.evaluate(
            "[...document.querySelectorAll('.input .name, .input .typed, .output .big, .output .quiet')]"
            ".filter((e) => e.scrollWidth > e.clientWidth + 1 || !e.matches('.name')"
            " && e.scrollHeight > e.clientHeight + 1).map((e) => [e.textContent, e.scrollWidth, e.clientWidth])"
        )
        assert cut == []
        assert page.inner_text(".input .typed >> nth=0").endswith("0")
        assert "(95%)" in page.inner_text(".output .quiet >> nth=0")
        page.close()
