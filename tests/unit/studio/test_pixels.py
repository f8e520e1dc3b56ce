"""Inputs that are the pixels of an image are drawn on in the studio's page; other inputs are not."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.data.dataset import Dataset
from kanserve.studio.opened_model import Opened
from tests.support.peers.studio_pages import chromium, until, violations
from tests.support.servers.studios import running

pytestmark = [pytest.mark.slow, pytest.mark.extended]

SIDE = 8
PROBABILITY = "parseFloat(document.querySelector('.chances li:nth-child({}) b').innerText.replace('<', ''))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


def strokes() -> Dataset:
    """Lines across and down, of ink 16 on paper; the corners are the same in each image, so they are no inputs."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 3, (400, SIDE, SIDE)).astype(float)
    kinds = rng.integers(0, 2, 400)
    for image, down, place in zip(images, kinds, rng.integers(1, SIDE - 1, 400), strict=True):
        image[(slice(None), place) if down else (place, slice(None))] = 16
    used = [n for n in range(SIDE * SIDE) if n not in (0, SIDE * SIDE - 1)]
    names = tuple(f"p{n}" for n in used)
    return Dataset(images.reshape(400, -1)[:, used], np.where(kinds == 1, "down", "across"), names)


def test_a_line_is_drawn_by_pointer_and_by_keys_and_its_class_is_told(browser: Any):
    data = strokes()
    kan = kanserve.fit([len(data.inputs), 2], data, grid=(3,), starts=1)
    with running(Opened(kan, "strokes", data), None) as studio:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(studio.studio.address)
        page.wait_for_selector(".pixels .drawing")
        assert page.inner_text(".chances li:nth-child(1) span") == "across"
        page.click(".pixels >> text=Clear")
        box = page.locator(".drawing svg").bounding_box()
        cell = box["width"] / SIDE
        page.mouse.move(box["x"] + 3.5 * cell, box["y"] + 0.5 * cell)
        page.mouse.down()
        page.mouse.move(box["x"] + 3.5 * cell, box["y"] + 7.5 * cell, steps=20)
        page.mouse.up()
        until(page, f"{PROBABILITY.format(2)} > 90")
        page.wait_for_selector(".pixels svg[aria-label='What each pixel contributes to log-odds of down']")
        page.click(".pixels >> text=Clear")
        page.focus(".drawing")
        for key in ["ArrowLeft"] * SIDE + ["ArrowUp"] * 3:
            page.keyboard.press(key)
        for _ in range(SIDE):
            page.keyboard.press("Space")
            page.keyboard.press("ArrowRight")
        until(page, f"{PROBABILITY.format(1)} > 90")
        assert violations(page) == []
        page.close()


def test_numbered_sensors_are_no_image(browser: Any):
    x = np.random.default_rng(1).normal(size=(200, 50))
    data = Dataset(x, x[:, 3], tuple(f"sensor{n}" for n in range(50)), ("y",))
    with running(Opened(kanserve.fit([50, 1], data, grid=(3,), starts=1), "sensors", data), None) as studio:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(studio.studio.address)
        page.wait_for_selector(".net .tile")
        assert page.locator(".pixels").count() == 0 and page.locator(".slider").count() > 0
        page.close()
