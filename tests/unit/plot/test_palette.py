"""Colours: what is written can be read, on light and on dark ground."""

import re
from dataclasses import fields

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.text import Text

import kanserve
from kanserve.network.kan import Variable
from kanserve.plot import plot_edge, plot_losses, plot_network, plot_residuals
from kanserve.plot.page import STYLE
from kanserve.plot.palette import AUTO, DARK, LIGHT, contrast, luminance, palette
from kanserve.train import create
from kanserve.train.fit_progress import Event
from tests.support.networks.kans import mixed, pruned, symbolic

TEXTS = ("ink", "second", "third", "snapped", "spline", "candidate", "good", "caution")
BEST_ON_BOTH = (contrast(LIGHT.paper, DARK.paper)) ** 0.5  # of a colour half-way between


def test_contrast_is_that_of_wcag():
    assert contrast("#FFFFFF", "#000000") == pytest.approx(21) and contrast("#777777", "#777777") == 1
    assert contrast("#FFFFFF", "#777777") == pytest.approx(4.48, abs=0.01)


def test_every_text_has_a_contrast_of_four_and_a_half_on_its_own_ground():
    for one in (LIGHT, DARK):
        assert [role for role in TEXTS if contrast(getattr(one, role), one.paper) < 4.5] == []


def test_on_an_unknown_ground_texts_have_the_most_contrast_that_one_colour_can_have_with_both():
    assert 4.2 < BEST_ON_BOTH < 4.5
    for role in TEXTS:
        assert min(contrast(getattr(AUTO, role), ground) for ground in (LIGHT.paper, DARK.paper)) > BEST_ON_BOTH - 0.06


def test_an_unknown_ground_has_one_colour_for_each_role_so_that_a_style_sheet_can_replace_it():
    colours = [getattr(AUTO, field.name) for field in fields(AUTO)]
    assert len(set(colours)) == len(colours)


def test_auto_becomes_the_theme_of_a_ground_that_is_known():
    assert palette("auto", "#F4F4F0") is LIGHT and palette("auto", "#0D1115") is DARK and palette("auto") is AUTO
    assert palette("dark", "#FFFFFF") is DARK and palette("light", "#000000") is LIGHT


def pictures(theme):
    kan, x = mixed(), np.random.default_rng(0).uniform(-1, 1, (60, 2))
    law = kanserve.from_formula("x*y + z", ranges={name: (1, 2) for name in "xyz"})
    events = [Event(str(n), 10.0**-n) for n in range(6)]
    yield plot_network(symbolic(), theme=theme)
    yield plot_network(pruned(), theme=theme)
    yield plot_network(create([8, 8], seed=1), theme=theme)
    yield plot_edge(kan, 0, 0, 0, x, theme=theme)
    yield plot_residuals(kan, (x, np.ones((60, len(kan.outputs)))), theme=theme)
    yield plot_losses(events, theme=theme)
    for found in (kanserve.separability(law), kanserve.interactions(law), kanserve.meaning(law, 1, 0)):
        yield found.plot(theme=theme)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("theme", ["light", "dark", "auto"])
def test_no_text_of_any_picture_is_dark_on_dark_or_light_on_light(theme):
    grounds = {"light": ["#FFFFFF"], "dark": ["#14191E"], "auto": ["#FFFFFF", "#14191E"]}[theme]
    for axes in pictures(theme):
        axes.figure.canvas.draw()
        assert to_rgba(axes.figure.get_facecolor())[3] == (0 if theme == "auto" else 1)
        others = set(axes.texts) if axes.images and axes.axison else set()  # the numbers of a matrix
        for part in (axes, *axes.child_axes):
            others |= set() if part.axison else {*part.findobj(Text)} - {*part.texts}  # scales that are not drawn
        for text in {*axes.figure.findobj(Text)} - others:
            if text.get_text().strip() and text.get_visible():
                worst = min(contrast(to_hex(text.get_color()), ground) for ground in grounds)
                assert worst > (4.1 if theme == "auto" else 4.4), (axes.get_title(), text.get_text())


@pytest.mark.slow
def test_the_numbers_of_a_matrix_can_be_read_on_their_cells():
    law = kanserve.from_formula("x*y + z", ranges={name: (1, 2) for name in "xyz"})
    for theme in ("light", "dark", "auto"):
        axes = kanserve.interactions(law).plot(theme=theme)
        cells = np.asarray(axes.images[0].get_array())
        for text in axes.texts:
            column, row = map(round, text.get_position())
            assert contrast(to_hex(text.get_color()), to_hex(cells[row, column])) > 4.5


def saved(axes, path):
    axes.figure.savefig(path)


def test_an_svg_has_its_text_as_text_and_follows_the_light_or_dark_of_its_reader(tmp_path):
    saved(plot_network(symbolic()), tmp_path / "kan.svg")
    svg = (tmp_path / "kan.svg").read_text()
    assert re.search(r"<text[^>]*>sin</text>", svg)
    for scheme, one in (("light", LIGHT), ("dark", DARK)):
        rules = svg.split(f"prefers-color-scheme: {scheme}")[1].split("@media")[0].split("</style>")[0]
        assert f"fill:{one.ink}" in rules and f"stroke:{one.snapped}" in rules
    used = {colour.lower() for colour in re.findall(r"(?:fill|stroke): (#[0-9a-fA-F]{6})", svg.split("</style>", 2)[2])}
    assert used <= {colour.lower() for colour in AUTO.roles.values()}  # each of them is replaced
    saved(plot_network(symbolic(), theme="light"), tmp_path / "light.svg")
    assert "prefers-color-scheme" not in (tmp_path / "light.svg").read_text()


def test_the_style_sheet_of_notebooks_has_both_themes_and_obeys_jupyterlab():
    light, dark, forced_light, forced_dark = (STYLE.count(part) for part in (LIGHT.ink, DARK.ink, "jp-theme", "vscode"))
    assert light == dark == 2 and forced_light == forced_dark == 2
    assert luminance(LIGHT.ink) < 0.1 < luminance(DARK.ink) and "http" not in STYLE and "@import" not in STYLE


def test_a_units_name_is_beside_its_input():
    layer = symbolic().layers
    kan = kanserve.Kan(layer, inputs=(Variable("a", "m/s", 0.0, 1.0), Variable("b")))
    assert "a (m/s)" in [text.get_text() for text in plot_network(kan).texts]
