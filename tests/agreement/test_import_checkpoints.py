"""Checkpoints that other libraries wrote are imported, and give what these gave; none of the libraries is needed."""

import numpy as np
import pytest

from kanserve.errors import CheckpointError
from kanserve.importers import from_checkpoint
from tests.checkpoints.make import RECIPES
from tests.support.peers.imported_checkpoints import ALL, FOLDER, IMPORTED, conversion, difference


def test_each_recipe_is_stored_and_nothing_else():
    recipes = {f"{library}/{recipe.__name__}" for library, those in RECIPES.items() for recipe in those}
    assert set(ALL) == recipes
    assert len(IMPORTED) >= 60


def test_each_file_belongs_to_a_recipe_and_all_are_small():
    files = [file for file in FOLDER.glob("*/*") if file.suffix != ".pyc"]
    starts = tuple(str(FOLDER / name) for name in ALL)
    assert [file for file in files if not str(file).startswith(starts)] == []
    assert sum(file.stat().st_size for file in files) < 1.5e6


def test_each_recipe_says_why_it_is_there():
    for those in RECIPES.values():
        assert all((recipe.__doc__ or "").endswith(".") for recipe in those)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", IMPORTED)
def test_a_checkpoint_is_known_for_what_it_is_and_gives_what_its_library_gave(name):
    found = conversion(name)
    assert found.library.replace("-", "_") == ALL[name].library
    assert difference(found.kan, ALL[name]) <= ALL[name].allowed


@pytest.mark.parametrize("name", [name for name, one in ALL.items() if one.refused])
def test_what_has_no_equal_here_is_refused_in_one_line_that_says_where_and_why(name):
    with pytest.raises(CheckpointError, match=ALL[name].refused) as raised:
        from_checkpoint(ALL[name].path, **ALL[name].options)
    assert "\n" not in str(raised.value) and "layer 1" in str(raised.value)


def test_the_rows_try_knots_ends_and_both_sides_of_the_range():
    # Radial functions have no knots, and knots that coincide become others.
    others = ("fast_kan/", "jaxkan/radial", "pykan/coinciding")
    for name in (one for one in IMPORTED if not one.startswith(others)):
        first, x = conversion(name).kan.layers[0], ALL[name].x
        low, high = first.knots[0].min(), first.knots[0].max()
        assert (x[:, 0] < low).any() and (x[:, 0] > high).any() and ((low < x[:, 0]) & (x[:, 0] < high)).any(), name
        if ALL[name].library != "inkan":  # which stores its knots rounded
            assert np.isin(first.knots[0], x[:, 0]).sum() >= 2, name
