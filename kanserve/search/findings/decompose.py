"""The search for the law of a problem: a list of stages, each of which proposes attempts.

`STAGES`, at the end of the file, is their order. An attempt is a closed form, found at once, or a hypothesis read off
polynomial least-squares fits (`surrogates`), which gives one or two smaller problems: it is accepted if their
solutions, joined and refitted to the rows, settle the problem. Shapes are tried at last.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kanserve.network.evaluate import evaluate
from kanserve.search.fit import closed_forms, wave_forms
from kanserve.search.fit.additive import additive
from kanserve.search.fit.by_shape import by_shapes, unlinked
from kanserve.search.fit.closed_forms import EXPONENT_DEGREES, near_low_polynomial
from kanserve.search.fit.description_length import most_informative
from kanserve.search.fit.noisy_forms import polynomial_or_quotient
from kanserve.search.fit.one_input import one_input_law
from kanserve.search.fit.overfit_test import few_values
from kanserve.search.fit.problem import ProblemAttempt, Search, SearchProblem, settles
from kanserve.search.fit.residual_test import scattered
from kanserve.search.fit.training import Array, FittedNetwork
from kanserve.search.regression.budget import OutOfBudgetError
from kanserve.search.regression.surrogates import far_from_polynomial
from kanserve.search.structure.affine import LARGEST_TOLERANCE, AffineIn, affine_in_one_of_two, affine_inputs
from kanserve.search.structure.factors import irrelevant, power_factors, powered
from kanserve.search.structure.input_merges import Merge, merges
from kanserve.search.structure.power_laws import monomial
from kanserve.search.structure.scaling import Scaling, scalings
from kanserve.search.structure.separation import Separation, separations
from kanserve.search.structure.single_index import Single, merged_by_trial, singles
from kanserve.search.trees import compose
from kanserve.search.trees.nodes import Node, renamed, text
from kanserve.search.trees.to_network import network

Attempt = Callable[[], FittedNetwork | None]
Proposals = Iterable[tuple[str, Attempt]]


@dataclass(frozen=True)
class Stage:
    """A way to find laws: when it is taken, and the attempts that it proposes, with names for the log."""

    name: str
    applies: Callable[[SearchProblem], bool]
    propose: Callable[[SearchProblem, Search], Proposals]


MAX_DEPTH = 6  # depth of a part from which it is not decomposed further; the whole law has depth 0
CONSTANT_RANGE = 1e-13  # range of the outputs, relative to their largest size, up to which they count as constant
PART_TOLERANCE = 3.0  # error of a part's law that counts as exact, relative to the error of the part's values
LEAST_PART_TOLERANCE = 1e-8  # least such error, relative to the spread of the part's values
# Largest error of a part that is joined, relative to its spread, unless ten of its tolerances are more.
LARGEST_PART_ERROR = 1e-2
BUDGET_SHARE = 0.5  # largest share of the remaining time and fits that one hypothesis may take
# Least factor by which rows are divided, relative to its 0.9 quantile: division by less amplifies their noise.
LEAST_WEIGHT = 0.5
MOST_LEFT_OUT = 0.6  # largest share of the rows that are left out because their factor is smaller
SHAPES_FIRST_INPUTS = 3  # most inputs with which shapes are tried before affine forms, the least certain hypotheses
MOST_AFFINE = 6  # number of affine forms to try, at most
# Relative error of the best surrogate above which merges are found by trial if it suggests none.
MERGE_BY_TRIAL_ERROR = 2e-2
POWER_LAW_MOST_ZEROS = 0.05  # share of rows with an input of 0, at most, without which any law is tried first
TERM_INPUTS = 2  # inputs up to which sums of terms are tried: the number of terms grows with their square
WAVE_INPUTS = 8  # inputs up to which products of two sines are tried: for every pair
BILINEAR_INPUTS = 3  # inputs up to which sines of bilinear forms are tried: for every pair
NOISY_INPUTS = 10  # inputs up to which such quotients are tried
NOISY_RIVAL_FITS = 1000  # fits in which another law is looked for after a quotient that is not sure
ADDITIVE_INPUTS = 10  # inputs up to which an additive model is named


def solved(one: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law of a problem: the first that settles it, else the best one found.

    After one that is not sure, the search goes on for some fits, and the better of the two is taken.
    """
    if search.over():
        return None
    if np.ptp(one.y) <= CONSTANT_RANGE * np.abs(one.y).max():
        return search.judge(compose.constant(float(one.y.mean()), 0), one, steps=0)
    best: FittedNetwork | None = None
    first: FittedNetwork | None = None
    with ExitStack() as limits:
        try:
            for name, attempt in attempts(one, search):
                search.log(f"{' ' * one.depth}{name}")
                found = None if search.over() else attempt()
                if found is None:
                    continue
                search.log(f"{' ' * one.depth}{name}: {found.error:.1e} {text(found.tree)}")
                if not settles(found, one):
                    best = found if best is None or found.held < best.held else best
                elif first is not None:
                    return most_informative([first, found], one, search)
                elif found.sure:
                    return found
                else:
                    first = found
                    limits.enter_context(search.within(BUDGET_SHARE))
                    limits.enter_context(search.within_fits(NOISY_RIVAL_FITS))
        except OutOfBudgetError:
            if first is None:
                raise
    return best if first is None else first


def attempts(one: SearchProblem, search: Search) -> Proposals:
    """What the stages propose, in their order; each looks at the problem only once those before have failed."""
    for stage in STAGES:
        if stage.applies(one):
            yield from stage.propose(one, search)


def _always(_: SearchProblem) -> bool:
    return True


def _exact(one: SearchProblem) -> bool:
    return one.exact <= LARGEST_TOLERANCE


def _exact_one_signed_input(one: SearchProblem) -> bool:
    return _exact(one) and _one_signed_input(one)


def _one_input(one: SearchProblem) -> bool:
    return one.inputs == 1


def _one_signed_input(one: SearchProblem) -> bool:
    return one.inputs == 1 and bool((one.x > 0).all() or (one.x < 0).all())


def _inexact_part(one: SearchProblem) -> bool:
    return not _exact(one) and not one.measured


def _scattered_one_input(one: SearchProblem) -> bool:
    return one.measured and one.inputs == 1 and scattered(one.x[:, 0], one.y)


def _exact_one_input(one: SearchProblem) -> bool:
    return one.measured and one.inputs == 1 and not scattered(one.x[:, 0], one.y)


def _few_measured_inputs(one: SearchProblem) -> bool:
    return one.measured and 1 < one.inputs <= NOISY_INPUTS


def _several_measured_inputs(one: SearchProblem) -> bool:
    return one.measured and 1 < one.inputs <= ADDITIVE_INPUTS


def _divisible(one: SearchProblem) -> bool:
    return one.inputs > 1 and one.depth < MAX_DEPTH


def _divisible_two(one: SearchProblem) -> bool:
    return one.inputs == 2 and _divisible(one)


def _divisible_many(one: SearchProblem) -> bool:
    return one.inputs > 2 and _divisible(one)


def _exact_bilinear(one: SearchProblem) -> bool:
    return _divisible(one) and one.inputs <= BILINEAR_INPUTS and _exact(one)


def _shapes_before_affine(one: SearchProblem) -> bool:
    return _divisible_many(one) and one.inputs <= SHAPES_FIRST_INPUTS


def _shapes_last(one: SearchProblem) -> bool:
    return one.inputs > 1 and not _shapes_before_affine(one)


def _single_attempt(name: str, solve: ProblemAttempt) -> Callable[[SearchProblem, Search], Proposals]:
    """A proposal of one attempt, which is a function of the problem and the search."""
    return lambda one, search: [(name, partial(solve, one, search))]


def _on_nonzero_rows(one: SearchProblem, search: Search) -> Proposals:
    """The law found without the few rows where an input is 0 at the end of its range: logarithms need that."""
    at_end = (one.x == 0) & ((one.x.min(axis=0) == 0) | (one.x.max(axis=0) == 0))
    usable = ~at_end.any(axis=1)
    if 0 < np.count_nonzero(~usable) <= POWER_LAW_MOST_ZEROS * len(usable):

        def attempt() -> FittedNetwork | None:
            with search.within(BUDGET_SHARE):
                found = solved(one.on(usable), search)
            return None if found is None else search.judge(found.tree, one, steps=0)

        yield f"on {np.count_nonzero(usable)} rows without 0", attempt


def _power_laws(one: SearchProblem, search: Search) -> Proposals:
    power_law = monomial(one.x, one.y)
    if power_law is not None:
        yield "power law", partial(_power_law, one, search, *power_law)


def _closed_forms(one: SearchProblem, search: Search) -> Proposals:
    few = bool(few_values(one.x))
    forms: dict[str, ProblemAttempt] = {"polynomial": closed_forms.polynomial}
    forms["power law times an exponential"] = closed_forms.powers_times_exponential
    if one.inputs == 1 and not few:
        forms["power of a sum"] = closed_forms.shifted_power
        forms["piecewise polynomial"] = closed_forms.piecewise
        forms["power of |x|"] = closed_forms.power_of_size
    if one.inputs <= TERM_INPUTS and not few:
        forms["sum of terms"] = closed_forms.sum_of_terms
    forms["rational function"] = closed_forms.rational
    if one.inputs <= TERM_INPUTS:
        forms |= closed_forms.functions_of_a_closed_form(one, search)
    if one.inputs in EXPONENT_DEGREES:
        forms["inputs as exponents"] = closed_forms.inputs_as_exponents
    if 1 < one.inputs <= WAVE_INPUTS:
        forms["product of waves"] = wave_forms.product_of_waves
    if one.inputs == 1 and not few:
        forms |= closed_forms.sums_of_scaled_terms()
    yield from zip(forms, search.attempts_ahead(list(forms.values()), one), strict=True)


def _irrelevant_inputs(one: SearchProblem, search: Search) -> Proposals:
    idle = irrelevant(one.x, one.y, one.surrogates)
    if 0 < len(idle) < one.inputs:
        kept = tuple(i for i in range(one.inputs) if i not in idle)
        yield f"of {kept} only", partial(_of_fewer, one, search, kept)


def _scale_symmetries(one: SearchProblem, search: Search) -> Proposals:
    for scaling in scalings(one.x, one.y, one.surrogates):
        if scaling.groups:
            yield f"scales as {[str(p) for p in scaling.powers]}", partial(_scaled, one, search, scaling)


def _power_factors(one: SearchProblem, search: Search) -> Proposals:
    factors = {factor.i: factor.power for factor in power_factors(one.x, one.y, one.surrogates)}
    if 0 < len(factors) < one.inputs:
        yield f"over powers {factors}", partial(_divided, one, search, factors)


def _single_indices(one: SearchProblem, search: Search) -> Proposals:
    for single in singles(one.x, one.y):
        yield f"of {single.kind} {single.weights} alone", partial(_single, one, search, single)


def _affine_in_one_of_two(one: SearchProblem, search: Search) -> Proposals:
    return _affine_forms(one, search, affine_in_one_of_two(one.x, one.y))


def _separable(one: SearchProblem, search: Search) -> Proposals:
    for separation in separations(one.x, one.y, one.surrogates):
        name = f"{separation.link.name} {separation.kind} {separation.parts}"
        yield name, partial(_separated, one, search, separation)


def _merges(one: SearchProblem, search: Search) -> Proposals:
    x, y, known = one.x, one.y, one.surrogates
    found = [merge for merge in merges(x, y, known) if one.inputs > 2 or merge.kind != "general"]
    if not found and known[0].error > MERGE_BY_TRIAL_ERROR:
        found = list(merged_by_trial(x, y, known[0].error))
    for merge in found:
        yield f"merged {merge.kind} {merge.inputs} {merge.beta}", partial(_merged, one, search, merge)


def _affine_in_inputs(one: SearchProblem, search: Search) -> Proposals:
    return _affine_forms(one, search, affine_inputs(one.x, one.y, one.surrogates)[:MOST_AFFINE])


def _affine_forms(one: SearchProblem, search: Search, forms: Iterable[AffineIn]) -> Proposals:
    for form in forms:
        yield f"affine in {form.inner} {form.i}: {form.P_inputs} {form.Q_inputs}", partial(_affine, one, search, form)


def _joined(
    found: FittedNetwork, join: Callable[[Node], Node], one: SearchProblem, search: Search, steps: int | None = None
) -> FittedNetwork:
    """The law that the law of a part gives, or the most informative of those that its rivals give; as sure as that."""
    laws = [search.judge(join(tree), one, steps) for tree in (found.tree, *found.rivals)]
    settled = [law for law in laws if settles(law, one)]
    best = most_informative(settled, one, search) if found.rivals else None
    best = laws[0] if best is None else best
    return replace(best, sure=found.sure, rivals=tuple(law.tree for law in settled if law is not best))


def _power_law(one: SearchProblem, search: Search, scale: float, powers: Sequence[float]) -> FittedNetwork:
    """The power law; of one input with noise it is not sure, since other forms may be as good."""
    found = search.judge(compose.monomial(range(one.inputs), powers, scale), one)
    alone = found.error < one.exact or one.inputs > 1 or not one.noisy
    return replace(found, sure=found.sure and alone)


def _of_reciprocal(
    one: SearchProblem, search: Search, solve: Callable[[SearchProblem, Search], FittedNetwork | None]
) -> FittedNetwork | None:
    found = solve(one.part(1 / one.x, one.y), search)
    if found is None:
        return None
    node = compose.monomial([0], [-1.0])
    return search.judge(compose.substituted(renamed(found.tree, (1,)), 1, node), one)


def _linked_of_reciprocal(one: SearchProblem, search: Search) -> FittedNetwork | None:
    return _of_reciprocal(one, search, closed_forms.linked)


def _shapes_of_reciprocal(one: SearchProblem, search: Search) -> FittedNetwork | None:
    return _of_reciprocal(one, search, by_shapes)


def _of_fewer(one: SearchProblem, search: Search, kept: tuple[int, ...]) -> FittedNetwork | None:
    with search.within(BUDGET_SHARE):
        found = solved(one.part(one.x[:, kept], one.y), search)
    return None if found is None else _joined(found, lambda tree: renamed(tree, kept), one, search, steps=0)


def _divided(one: SearchProblem, search: Search, powers: dict[int, float]) -> FittedNetwork | None:
    weight = np.prod([powered(one.x[:, i], p) for i, p in powers.items()], axis=0)
    usable = _usable(weight)
    kept = tuple(i for i in range(one.inputs) if i not in powers)
    with search.within(BUDGET_SHARE):
        found = solved(one.divided(one.x[:, kept], weight, usable), search)
    if found is None:
        return None
    factor = compose.monomial(list(powers), list(powers.values()))
    return _joined(found, lambda tree: compose.product([factor, renamed(tree, kept)]), one, search)


def _scaled(one: SearchProblem, search: Search, scaling: Scaling) -> FittedNetwork | None:
    """Π x_i^p_i · F(groups)."""
    powers = [float(p) for p in scaling.powers]
    weight = np.prod([np.ones(len(one.x)), *(powered(one.x[:, i], p) for i, p in enumerate(powers) if p)], axis=0)
    usable = _usable(weight)
    rest = (one.y / weight)[usable]
    count = scaling.values.shape[1]
    signs = _turned(scaling.values[usable], rest, range(count) if count > 1 else [])
    values = np.stack([powered(column, p) for column, p in zip(scaling.values.T, signs, strict=True)], axis=1)
    with search.within(BUDGET_SHARE):
        found = solved(one.divided(values, weight, usable), search)
    if found is None:
        return None

    def join(tree: Node) -> Node:
        tree = renamed(tree, tuple(range(one.inputs, one.inputs + len(signs))))
        for k, (group, sign) in enumerate(zip(scaling.groups, signs, strict=True)):
            node = compose.monomial(range(one.inputs), [sign * p for p in group])
            tree = compose.substituted(tree, one.inputs + k, node)
        return compose.product([compose.monomial(range(one.inputs), powers), tree]) if any(powers) else tree

    return _joined(found, join, one, search)


def _turned(values: Array, y: Array, which: Sequence[int]) -> list[float]:
    """The exponent of each column of values (N, k): 1, or -1 for columns in `which` if a cubic in 1/z fits y better."""
    signs = [1.0] * values.shape[1]
    least = far_from_polynomial(values, y, 3)
    for k in which:
        if values[:, k].min() <= 0 <= values[:, k].max():
            continue
        other = np.array(values)
        other[:, k] = 1 / values[:, k]
        error = far_from_polynomial(other, y, 3)
        if error < least:
            signs[k], values, least = -1.0, other, error
    return signs


def solved_with(one: SearchProblem, search: Search, scaling: Scaling) -> FittedNetwork | None:
    """The law of a problem by a scaling that is known in advance, as from units."""
    if scaling.groups:
        return _scaled(one, search, scaling)
    powers = [float(p) for p in scaling.powers]
    weight = np.prod([powered(one.x[:, i], p) for i, p in enumerate(powers)], axis=0)
    return _power_law(one, search, float(weight @ one.y / (weight @ weight)), powers)


def _usable(weight: Array) -> NDArray[np.bool_]:
    """The rows whose noise grows little when they are divided by their weight."""
    sizes = np.abs(weight)
    most, large = np.quantile(sizes, (MOST_LEFT_OUT, 0.9))
    usable: NDArray[np.bool_] = sizes >= min(LEAST_WEIGHT * large, most)
    return usable


def _single(one: SearchProblem, search: Search, single: Single) -> FittedNetwork | None:
    with search.within(BUDGET_SHARE):
        found = solved(one.part(single.values[:, None], one.y), search)
    if found is None:
        return None
    if single.kind == "product":
        node = compose.monomial(range(one.inputs), single.weights)
    else:
        node = compose.linear(range(one.inputs), single.weights)

    def join(tree: Node) -> Node:
        return compose.substituted(renamed(tree, (one.inputs,)), one.inputs, node)

    return _joined(found, join, one, search)


def _separated(one: SearchProblem, search: Search, separation: Separation) -> FittedNetwork | None:
    trees = []
    with search.within(BUDGET_SHARE):
        for k, part in enumerate(separation.parts):
            values = separation.values[:, k]
            gain = 1.0
            if separation.kind == "sum":
                whole = float(np.sqrt(np.mean(separation.link.forward(one.y) ** 2)))
                gain = max(1.0, whole / (float(values.std()) or 1.0))
            tree = _part(one, search, values, part, gain * separation.error)
            if tree is None:
                return None
            trees.append(tree)
    joined = compose.total(trees) if separation.kind == "sum" else compose.product(trees)
    return search.judge(unlinked(joined, separation.link), one)


def _merged(one: SearchProblem, search: Search, merge: Merge) -> FittedNetwork | None:
    """Replaces the inputs of a merge by one variable z; a general z is solved first, as a problem of its own."""
    i, *others = merge.inputs
    exact = one.exact
    if merge.kind == "general" or merge.beta is None:
        found = _part(one, search, merge.values, merge.inputs, merge.error)
        if found is None:
            return None
        node, exact = found, max(exact, PART_TOLERANCE * merge.error)
        merged = evaluate(network(node, one.inputs).kan, one.x)[:, 0]
    elif merge.kind == "sum":
        node = compose.linear(merge.inputs, (1.0, merge.beta))
        merged = one.x[:, i] + merge.beta * one.x[:, others[0]]
    else:
        merged = one.x[:, i] * powered(one.x[:, others[0]], merge.beta)
        kept = [k for k in range(one.inputs) if k not in merge.inputs]
        (*_, sign) = _turned(np.column_stack([one.x[:, kept], merged]), one.y, [len(kept)])
        node = compose.monomial(merge.inputs, (sign, sign * merge.beta))
        merged = powered(merged, sign)
    if not np.isfinite(merged).all():
        return None
    kept = [k for k in range(one.inputs) if k not in merge.inputs]
    smaller = np.column_stack([one.x[:, kept], merged])
    with search.within(BUDGET_SHARE):
        found_rest = solved(one.part(smaller, one.y, exact, merge.kind != "general"), search)
    if found_rest is None:
        return None

    def join(tree: Node) -> Node:
        return compose.substituted(renamed(tree, (*kept, one.inputs)), one.inputs, node)

    return _joined(found_rest, join, one, search)


def _affine(one: SearchProblem, search: Search, affine: AffineIn) -> FittedNetwork | None:
    """P + g(x_i)·Q; Q is solved first, since it usually has fewer inputs."""
    terms: list[Node] = []
    with search.within(BUDGET_SHARE):
        slope = _part(one, search, affine.values[:, 1], affine.Q_inputs, affine.errors[1])
        if slope is None:
            return None
        terms.append(compose.product([compose.inner(affine.i, affine.inner), slope]))
        level = _part(one, search, affine.values[:, 0], affine.P_inputs or (affine.i,), affine.errors[0])
        if level is None:
            return None
        terms.append(level)
    return search.judge(unlinked(compose.total(terms), affine.link), one)


def _part(one: SearchProblem, search: Search, values: Array, columns: Sequence[int], error: float) -> Node | None:
    """The tree of a part whose values are known up to an error."""
    if not np.isfinite(values).all():
        return None
    tolerance = max(PART_TOLERANCE * error, LEAST_PART_TOLERANCE)
    found = solved(one.part(one.x[:, list(columns)], values, tolerance, measured=False), search)
    if found is None or found.error > max(10 * tolerance, LARGEST_PART_ERROR):
        return None
    return renamed(found.tree, tuple(columns))


STAGES: tuple[Stage, ...] = (
    Stage("rows without 0", _always, _on_nonzero_rows),
    Stage("power law", _always, _power_laws),
    Stage("closed forms", _exact, _closed_forms),
    Stage("low polynomial", _inexact_part, _single_attempt("function of a low polynomial", near_low_polynomial)),
    Stage("forms of one input", _scattered_one_input, _single_attempt("form of one input", one_input_law)),
    Stage("quotient", _few_measured_inputs, _single_attempt("polynomial or quotient", polynomial_or_quotient)),
    Stage(
        "closed form of 1/x",
        _exact_one_signed_input,
        _single_attempt("function of a closed form of 1/x", _linked_of_reciprocal),
    ),
    Stage("shapes of one input", _one_input, _single_attempt("shapes", by_shapes)),
    Stage("shapes of 1/x", _one_signed_input, _single_attempt("shapes of 1/x", _shapes_of_reciprocal)),
    Stage("forms of one exact input", _exact_one_input, _single_attempt("form of one input", one_input_law)),
    Stage("additive", _several_measured_inputs, _single_attempt("sum of functions of one input", additive)),
    Stage("irrelevant inputs", _divisible, _irrelevant_inputs),
    Stage("scaling", _divisible, _scale_symmetries),
    Stage("power factors", _divisible, _power_factors),
    Stage("single index", _divisible, _single_indices),
    Stage("affine in one of two", _divisible_two, _affine_in_one_of_two),
    Stage("separation", _divisible_many, _separable),
    Stage("merges", _divisible, _merges),
    Stage("bilinear", _exact_bilinear, _single_attempt("sine of a bilinear form", wave_forms.sine_of_bilinear_form)),
    Stage("shapes before affine forms", _shapes_before_affine, _single_attempt("shapes", by_shapes)),
    Stage("affine", _divisible_many, _affine_in_inputs),
    Stage("shapes", _shapes_last, _single_attempt("shapes", by_shapes)),
)
