"""Networks of pykan: what is imported is what pykan's formulas say, trap by trap."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kanserve.errors import CheckpointError
from kanserve.formula import formulas
from kanserve.importers import pykan
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, Sum, Symbolic, Zero, make_layer
from kanserve.simplification import composites, edge_candidates
from tests.support.peers.pykan_formulas import LIBRARY, Array, Groups, fixed, forward, rows, stored


def imported(one: Checkpoint, **options: Any) -> Conversion:
    return pykan.convert(one, Options(**options))


def assert_agrees(
    one: Checkpoint, groups: Sequence[Groups] = (), base: str = "silu", bound: float = 1e-12
) -> Conversion:
    found, x = imported(one), rows(one)
    with np.errstate(all="ignore"):
        wanted = forward(one, x, groups, base)
    wanted[~np.isfinite(wanted).all(axis=1)] = np.nan
    assert np.isfinite(wanted).all(axis=1).sum() > 100
    got = evaluate(found.kan, x)
    assert np.array_equal(np.isnan(got), np.isnan(wanted))
    assert np.nanmax(np.abs(got - wanted)) <= bound * np.nanmax(np.abs(wanted))
    return found


def refusal(one: Checkpoint, **options: Any) -> str:
    with pytest.raises(CheckpointError) as raised:
        imported(one, **options)
    assert "\n" not in str(raised.value) and str(raised.value).startswith("m: ")
    return str(raised.value)


def test_a_network_on_uneven_grids_is_what_pykan_computes_inside_outside_and_on_knots():
    found = assert_agrees(stored((3, 4), (4, 2), (2, 1)))
    assert found.kan.shape == (3, 4, 2, 1) and found.library == "pykan" and found.notes == ()
    assert {layer.extrapolation for layer in found.kan.layers} == {"zero"}
    assert [variable.name for variable in found.kan.inputs] == ["x1", "x2", "x3"]


def test_each_layer_has_its_own_order_and_grid():
    found = assert_agrees(stored((2, 3), (3, 3), (3, 1), orders=(2, 5, 1)))
    assert [(layer.order, layer.intervals) for layer in found.kan.layers] == [(2, 3), (5, 4), (1, 5)]


def test_float32_is_taken_as_the_exact_number_that_it_is():
    one = stored((2, 3), (3, 1))
    single = Checkpoint({name: array.astype(np.float32) for name, array in one.arrays.items()}, one.settings, "m")
    assert single.single
    found = assert_agrees(single)
    assert np.array_equal(found.kan.layers[0].knots, single.arrays["act_fun.0.grid"].astype(np.float64))


@pytest.mark.parametrize("base", ["silu", "identity", "zero"])
def test_the_base_function_is_that_of_the_settings(base):
    one = stored((2, 2), (2, 1), base_fun_name=base)
    assert {own.base for own in assert_agrees(one, base=base).kan.layers} == {base}
    assert imported(one, base=base).notes == ()


def test_masks_of_a_node_that_was_pruned_leave_no_edge():
    one = stored((2, 3), (3, 1))
    one.arrays["act_fun.0.mask"][:, 1] = 0
    one.arrays["act_fun.1.mask"][1] = 0
    found = assert_agrees(one).kan
    assert found.edges == 6 and isinstance(found.layers[0].edge(1, 0), Zero)


def test_masks_between_0_and_1_are_factors_and_an_edge_that_is_both_stays_both():
    one = fixed(stored((3, 2), (2, 1)), 0, 2, 1, "sin", share=0.6, numeric=-0.3)
    one.arrays["act_fun.0.mask"][0, 0] = 0.25
    edge = assert_agrees(one).kan.layers[0].edge(1, 2)
    assert isinstance(edge, Sum) and edge.symbolic == Symbolic("sin", 0.3, 0.6, 0.6 * 0.7, 0.6 * -0.2)
    assert np.array_equal(edge.spline.coefficients, -0.3 * one.arrays["act_fun.0.scale_sp"][2, 1] * _coef(one, 2, 1))


def _coef(one: Checkpoint, i: int, j: int) -> Array:
    result: Array = one.arrays["act_fun.0.coef"][i, j]
    return result


def test_the_symbolic_arrays_are_out_by_in_also_where_both_are_equal():
    one = fixed(fixed(stored((2, 2), (2, 1)), 0, 0, 1, "exp"), 0, 1, 0, "cos")
    first = assert_agrees(one).kan.layers[0]
    assert first.functions.tolist() == [["", "cos"], ["exp", ""]]


@pytest.mark.parametrize("name", LIBRARY)
def test_each_function_of_pykans_library_is_had_under_its_name(name):
    found = assert_agrees(fixed(stored((2, 2), (2, 1), orders=(2, 2)), 0, 1, 0, name))
    assert isinstance(found.kan.layers[0].edge(0, 1), Zero if name == "0" else Symbolic)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x^5", "3*(2*x1 + 1)^5"),
        ("1/x^3", "3/(2*x1 + 1)^3"),
        ("1/x^4", "3/(2*x1 + 1)^4"),
        ("1/x^5", "3/(2*x1 + 1)^5"),
        ("x^1.5", "3*(2*x1 + 1)^(3/2)"),
    ],
)
def test_powers_that_only_pykan_has_are_in_formulas_and_no_search_tries_them(name, text):
    kan = Kan((make_layer(functions=[[name]], affine=[[[2.0, 1.0, 3.0, 0.0]]]),))
    assert formulas(kan)[0].text == text
    assert name not in (*edge_candidates.LIBRARY, *composites.INNER, *composites.POWERS)


def test_a_function_that_is_0_leaves_its_constant_to_the_node():
    one = fixed(stored((2, 2), (2, 1), affine=True), 0, 1, 0, "0", share=0.5)
    first = assert_agrees(one).kan.layers[0]
    scale, bias = one.arrays["subnode_scale_0"][0], one.arrays["subnode_bias_0"][0]
    assert isinstance(first.edge(0, 1), Zero) and first.subnode_bias[0] == pytest.approx(bias + scale * 0.5 * -0.2)


def test_a_function_whose_mask_is_0_is_none_and_a_note_says_where_pykan_is_nan_because_of_it():
    one = fixed(stored((2, 2), (2, 1)), 0, 1, 0, "log", share=0.0, numeric=1.0)
    found = assert_agrees(one)
    assert not found.kan.layers[0].symbolic_mask.any()
    assert "log of layer 1, edge from input 2 to node 1" in found.notes[0]


def test_functions_count_although_symbolic_enabled_is_false():
    one = fixed(stored((2, 2), (2, 1), symbolic_enabled=False), 0, 1, 0, "tanh")
    assert "symbolic_enabled is false, and 1 edges have functions" in assert_agrees(one).notes[0]
    assert imported(stored((2, 2), (2, 1), symbolic_enabled=False)).notes == ()


def test_functions_are_those_of_forward_and_not_the_protected_ones():
    (note,) = assert_agrees(fixed(stored((2, 2), (2, 1)), 0, 1, 0, "1/x^3")).notes
    assert "1/x^3" in note and "singularity_avoiding" in note


def test_products_of_two_come_after_the_sums():
    one = stored((2, 6, 4), (4, 2, 1), affine=True, width=[[2, 0], [2, 2], [0, 1]])
    found = assert_agrees(one, [[[0], [1], [2, 3], [4, 5]], [[0, 1]]])
    assert [own.arity.tolist() for own in found.kan.layers] == [[1, 1, 2, 2], [2]]


def test_products_of_three_take_three_that_follow_one_another():
    one = stored((2, 7, 3), (3, 1), affine=True, mult_arity=3)
    assert_agrees(one, [[[0], [1, 2, 3], [4, 5, 6]], [[0]]])


def test_products_of_different_arity_begin_where_the_last_one_ended():
    one = stored((2, 10, 4), (4, 5, 2), affine=True, mult_arity=[[], [2, 3, 4], [3, 2]])
    assert_agrees(one, [[[0], [1, 2], [3, 4, 5], [6, 7, 8, 9]], [[0, 1, 2], [3, 4]]])


def test_knots_that_coincide_are_evaluated_as_pykan_does_and_noted():
    one = stored((3, 2), (2, 1), orders=(3, 2))
    grid = one.arrays["act_fun.0.grid"]
    grid[0, 5] = grid[0, 4]
    grid[2, 4:8] = grid[2, 4]
    found = assert_agrees(one, bound=1e-11)
    assert "layer 1: knots of input 1, 3 coincide" in found.notes[0]
    assert np.array_equal(np.unique(found.kan.layers[0].knots[0])[:9], np.unique(grid[0]))
    grid[1] = 0.7
    assert "layer 1: knots of input 1, 2, 3 coincide" in assert_agrees(one, bound=1e-11).notes[0]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_knots_coincide_in_any_order_and_at_both_ends(k):
    one = stored((2, 2), (2, 1), orders=(k, k))
    for n, places in ((0, (1, -1)), (1, (k, -2))):
        for place in places:
            one.arrays[f"act_fun.{n}.grid"][:, place] = one.arrays[f"act_fun.{n}.grid"][:, place - 1]
    assert_agrees(one, bound=1e-11)


def test_a_grid_without_any_width_holds_no_spline():
    one = stored((2, 2), (2, 1))
    one.arrays["act_fun.0.grid"][1] = 0.7
    found = assert_agrees(one)
    assert "layer 1: the knots of input 2 are all equal" in found.notes[0]
    assert (np.diff(found.kan.layers[0].knots) > 0).all()


def test_a_grid_that_no_edge_reads_may_be_anything():
    one = fixed(fixed(stored((2, 2), (2, 1)), 0, 1, 0, "x"), 0, 1, 1, "x^2")
    one.arrays["act_fun.0.grid"][1] = 0.0
    assert assert_agrees(one).notes == ()


def test_names_are_those_that_are_given():
    found = imported(stored((2, 2), (2, 2)), inputs=("mass", "speed"), outputs=("energy", "action")).kan
    assert [variable.name for variable in (*found.inputs, *found.outputs)] == ["mass", "speed", "energy", "action"]
    assert np.isinf([variable.high for variable in found.inputs]).all()
    assert "2 inputs need as many names, got 1" in refusal(stored((2, 2), (2, 1)), inputs=("mass",))
    assert "must differ" in refusal(stored((2, 2), (2, 1)), inputs=("x", "x"))


def _object(tag: str) -> Any:
    return SimpleNamespace(tag=tag)


@pytest.mark.parametrize(
    ("tag", "base"),
    [
        ("python/object:torch.nn.modules.activation.SiLU", "silu"),
        ("python/object:torch.nn.modules.linear.Identity", "identity"),
        ("python/name:kan.MultKAN.<lambda>", "zero"),
    ],
)
def test_the_object_that_prune_input_leaves_in_the_settings_is_known_by_its_tag(tag, base):
    found = assert_agrees(stored((2, 2), (2, 1), base_fun_name=_object(tag)), base=base)
    assert found.kan.layers[0].base == base and "which inputs were kept is not in the file" in found.notes[0]


def test_what_is_not_plain_in_the_settings_is_not_needed_where_shapes_say_it():
    strange = _object("python/object/apply:numpy.core.multiarray.scalar")
    one = stored((2, 3), (3, 1), width=[[2, 0], [strange, strange], [1, 0]], grid=strange, k=[strange, 3])
    assert assert_agrees(one).notes == ()


def test_another_base_function_is_refused_unless_nothing_is_multiplied_with_it():
    one = stored((2, 2), (2, 1), base_fun_name=_object("python/object:torch.nn.modules.activation.Tanh"))
    assert "Tanh" in refusal(one)
    assert imported(one, base="identity").kan.layers[0].base == "identity"
    for n in range(2):
        one.arrays[f"act_fun.{n}.scale_base"][:] = 0
    assert assert_agrees(one).kan.layers[0].base == "zero"
    assert "base='zero'" in refusal(stored((2, 2), (2, 1)), base="zero")


def test_a_state_alone_is_enough_without_functions_and_products():
    one = stored((2, 2), (2, 1))
    alone = Checkpoint(one.arrays, {}, "m")
    assert "silu, pykan's default, was taken" in assert_agrees(alone).notes[0]
    assert imported(alone, base="silu").notes == ()
    assert "layer 1 has 1 edges with a function" in refusal(Checkpoint(fixed(one, 0, 0, 0, "x").arrays, {}, "m"))
    assert "layer 1 makes 2 nodes of 3 sums" in refusal(Checkpoint(stored((2, 3, 2), (2, 1)).arrays, {}, "m"))


def test_functions_that_are_not_pykans_are_refused_by_name_with_their_place():
    one = stored((2, 2), (2, 3))
    assert "layer 2, edge from input 1 to node 3" in refusal(fixed(one, 1, 0, 2, "anonymous"))
    assert "'bessel' is not of pykan's library" in refusal(fixed(one, 1, 0, 2, "bessel"))
    known = imported(fixed(one, 1, 0, 2, "cosh"))
    assert known.kan.layers[1].functions[2, 0] == "cosh" and "by their names: cosh" in known.notes[0]
