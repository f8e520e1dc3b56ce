def test_the_signature_of_a_knot_has_a_short_formula_in_its_translations() -> None:
    learn, held = load_knots().split(0.2, seed=0)
    simple = simplify(fit([16, (0, 1)], learn), learn, all_edges=True)
    used = {name for name, alive in zip(learn.inputs, simple.layers[0].alive.any(axis=0), strict=True) if alive}
    assert simple.symbolic and simple.edges <= 8
    assert {"longitudinal_translation", "meridinal_translation_real"} <= used
    assert score(simple, held).r2[0] > 0.92
