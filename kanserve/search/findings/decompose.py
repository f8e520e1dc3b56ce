"""The search for the law of a problem: a list of stages (`STAGES`), each of which proposes attempts. An attempt is a
closed form, or a hypothesis read off polynomial least-squares fits (`surrogates`), which gives one or two smaller
problems: it is accepted if their solutions, joined and refitted to the rows, settle the problem. Shapes are tried
last."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kanserve.network.evaluate import evaluate
from kanserve.search.fit import closed_forms, wave_forms
from kanserve.search.fit.additive import additive
from kanserve.search.fit.by_shape import apply_inverse_link, by_shapes
from kanserve.search.fit.closed_forms import EXPONENT_DEGREES, near_low_polynomial
from kanserve.search.fit.description_length import most_informative
from kanserve.search.fit.noisy_forms import polynomial_or_quotient
from kanserve.search.fit.one_input import function_times_line, one_input_law
from kanserve.search.fit.overfit_test import few_values
from kanserve.search.fit.problem import ProblemAttempt, Search, SearchProblem, settles
from kanserve.search.fit.residual_test import is_scattered
from kanserve.search.fit.training import Array, FittedNetwork
from kanserve.search.regression.budget import OutOfBudgetError
from kanserve.search.regression.surrogates import far_from_polynomial
from kanserve.search.structure.affine import LARGEST_TOLERANCE, AffineIn, affine_inputs
from kanserve.search.structure.factors import irrelevant, power_factors, raise_to
from kanserve.search.structure.input_merges import Merge, merges
from kanserve.search.structure.power_laws import monomial
from kanserve.search.structure.scaling import Scaling, scalings
from kanserve.search.structure.separation import Separation, separations
from kanserve.search.structure.single_index import Single, merge_by_trial, singles
from kanserve.search.trees import compose
from kanserve.search.trees.nodes import Node, rename_inputs, text
from kanserve.search.trees.to_network import network

Attempt = Callable[[], FittedNetwork | None]
Proposals = Iterable[tuple[str, Attempt]]


@dataclass(frozen=True)
class Stage:
    """A way to find laws: its condition, and the attempts that it proposes, with their names for the log."""

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
# Laws of which the most informative is chosen, at most: each is simplified for that, which takes a tenth of a second.
# The others count as rivals, which are compared at the end.
MOST_COMPARED = 8
MOST_AFFINE = 6  # number of affine forms to try, at most
# Relative error of the best surrogate above which merges are found by trial if it suggests none.
MERGE_BY_TRIAL_ERROR = 2e-2
POWER_LAW_MOST_ZEROS = 0.05  # share of rows with an input of 0, at most, without which any law is tried first
TERM_INPUTS = 2  # inputs up to which sums of terms are tried: the number of terms grows with their square
WAVE_INPUTS = 8  # inputs up to which products of two sines are tried: for every pair
BILINEAR_INPUTS = 3  # inputs up to which sines of bilinear forms are tried: for every pair
NOISY_INPUTS = 10  # inputs up to which such quotients are tried
NOISY_RIVAL_FITS = 1000  # fits in which another law is looked for after a quotient that is not sure
QUADRATIC_INPUTS = 3  # inputs up to which roots of quadratic equations are tried, each with functions of the inputs
NESTED_TOLERANCE = 1e-6  # error of a part up to which functions with several constants are told from others
ADDITIVE_INPUTS = 10  # inputs up to which an additive model is named


def solve(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law of a problem: the first that solves it, else the best found. After a law that is not sure, the search
    goes on for some fits, and the better of two is taken."""
    if search.over():
        return None
    if np.ptp(problem.y) <= CONSTANT_RANGE * np.abs(problem.y).max():
        return search.judge(compose.constant(float(problem.y.mean()), 0), problem, steps=0)
    best: FittedNetwork | None = None
    first: FittedNetwork | None = None
    with ExitStack() as limits:
        try:
            for name, attempt in attempts(problem, search):
                search.log(f"{' ' * problem.depth}{name}")
                found = None if search.over() else attempt()
                if found is None:
                    continue
                search.log(f"{' ' * problem.depth}{name}: {found.error:.1e} {text(found.tree)}")
                if not settles(found, problem):
                    best = found if best is None or found.held < best.held else best
                elif first is not None:
                    return most_informative([first, found], problem, search)
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


def attempts(problem: SearchProblem, search: Search) -> Proposals:
    """The proposals of all stages in order. A stage examines the problem only after all earlier ones have failed."""
    for stage in STAGES:
        if stage.applies(problem):
            yield from stage.propose(problem, search)


def _always(_: SearchProblem) -> bool:
    return True


def _exact(problem: SearchProblem) -> bool:
    return problem.exact <= LARGEST_TOLERANCE


def _exact_one_signed_input(problem: SearchProblem) -> bool:
    return _exact(problem) and _one_signed_input(problem)


def _one_input(problem: SearchProblem) -> bool:
    return problem.inputs == 1


def _one_signed_input(problem: SearchProblem) -> bool:
    return problem.inputs == 1 and bool((problem.x > 0).all() or (problem.x < 0).all())


def _inexact_part(problem: SearchProblem) -> bool:
    return not _exact(problem) and not problem.measured


def _is_scattered_in_one_input(problem: SearchProblem) -> bool:
    return problem.measured and problem.inputs == 1 and is_scattered(problem.x[:, 0], problem.y)


def _near_exact_one_input(problem: SearchProblem) -> bool:
    noisy = problem.measured and (problem.inputs > 1 or is_scattered(problem.x[:, 0], problem.y))
    return problem.inputs == 1 and problem.exact <= NESTED_TOLERANCE and not noisy


def _exact_one_input(problem: SearchProblem) -> bool:
    return problem.measured and problem.inputs == 1 and not is_scattered(problem.x[:, 0], problem.y)


def _few_measured_inputs(problem: SearchProblem) -> bool:
    return problem.measured and 1 < problem.inputs <= NOISY_INPUTS


def _several_measured_inputs(problem: SearchProblem) -> bool:
    return problem.measured and 1 < problem.inputs <= ADDITIVE_INPUTS


def _divisible(problem: SearchProblem) -> bool:
    return problem.inputs > 1 and problem.depth < MAX_DEPTH


def _divisible_many(problem: SearchProblem) -> bool:
    return problem.inputs > 2 and _divisible(problem)


def _exact_bilinear(problem: SearchProblem) -> bool:
    return _divisible(problem) and problem.inputs <= BILINEAR_INPUTS and _exact(problem)


def _exact_quadratic(problem: SearchProblem) -> bool:
    return 1 < problem.inputs <= QUADRATIC_INPUTS and _exact(problem) and not problem.noisy


def _several_inputs(problem: SearchProblem) -> bool:
    return problem.inputs > 1


def _single_attempt(name: str, solve: ProblemAttempt) -> Callable[[SearchProblem, Search], Proposals]:
    """A `propose` function for a stage that makes a single attempt."""
    return lambda problem, search: [(name, partial(solve, problem, search))]


def _on_nonzero_rows(problem: SearchProblem, search: Search) -> Proposals:
    """Propose to solve without the few rows where an input is 0 at the end of its range, since logarithms need that."""
    at_end = (problem.x == 0) & ((problem.x.min(axis=0) == 0) | (problem.x.max(axis=0) == 0))
    usable = ~at_end.any(axis=1)
    if 0 < np.count_nonzero(~usable) <= POWER_LAW_MOST_ZEROS * len(usable):

        def attempt() -> FittedNetwork | None:
            with search.within(BUDGET_SHARE):
                found = solve(problem.on(usable), search)
            return None if found is None else search.judge(found.tree, problem, steps=0)

        yield f"on {np.count_nonzero(usable)} rows without 0", attempt


def _power_laws(problem: SearchProblem, search: Search) -> Proposals:
    power_law = monomial(problem.x, problem.y)
    if power_law is not None:
        yield "power law", partial(_power_law, problem, search, *power_law)


def _propose_closed_forms(problem: SearchProblem, search: Search) -> Proposals:
    few = bool(few_values(problem.x))
    forms: dict[str, ProblemAttempt] = {"polynomial": closed_forms.polynomial}
    forms["power law times an exponential"] = closed_forms.powers_times_exponential
    if problem.inputs == 1 and not few:
        forms["power of a sum"] = closed_forms.fit_shifted_power
        forms["piecewise polynomial"] = closed_forms.piecewise
        forms["power of |x|"] = closed_forms.power_of_size
    if problem.inputs <= TERM_INPUTS and not few:
        forms["sum of terms"] = closed_forms.sum_of_terms
    forms["rational function"] = closed_forms.rational
    if problem.inputs <= TERM_INPUTS:
        forms |= closed_forms.functions_of_a_closed_form(problem, search)
    if problem.inputs in EXPONENT_DEGREES:
        forms["inputs as exponents"] = closed_forms.inputs_as_exponents
    if 1 < problem.inputs <= WAVE_INPUTS:
        forms["product of waves"] = wave_forms.product_of_waves
    if problem.inputs == 1 and not few:
        forms |= closed_forms.sums_of_scaled_terms()
    yield from zip(forms, search.attempts_ahead(list(forms.values()), problem), strict=True)


def _functions_times_lines(problem: SearchProblem, search: Search) -> Proposals:
    yield "function times a line", partial(function_times_line, problem, search)
    if _one_signed_input(problem):
        yield "function of 1/x times a line", partial(_of_reciprocal, problem, search, function_times_line)


def _irrelevant_inputs(problem: SearchProblem, search: Search) -> Proposals:
    idle = irrelevant(problem.x, problem.y, problem.surrogates)
    if 0 < len(idle) < problem.inputs:
        kept = tuple(i for i in range(problem.inputs) if i not in idle)
        yield f"of {kept} only", partial(_of_fewer, problem, search, kept)


def _scale_symmetries(problem: SearchProblem, search: Search) -> Proposals:
    for scaling in scalings(problem.x, problem.y, problem.surrogates):
        if scaling.groups:
            yield f"scales as {[str(p) for p in scaling.powers]}", partial(_solve_scaled, problem, search, scaling)


def _power_factors(problem: SearchProblem, search: Search) -> Proposals:
    factors = {factor.i: factor.power for factor in power_factors(problem.x, problem.y, problem.surrogates)}
    if 0 < len(factors) < problem.inputs:
        yield f"over powers {factors}", partial(_divide_by_powers, problem, search, factors)


def _single_indices(problem: SearchProblem, search: Search) -> Proposals:
    for single in singles(problem.x, problem.y):
        yield f"of {single.kind} {single.weights} alone", partial(_single, problem, search, single)


def _separable(problem: SearchProblem, search: Search) -> Proposals:
    for separation in separations(problem.x, problem.y, problem.surrogates):
        name = f"{separation.link.name} {separation.kind} {separation.parts}"
        yield name, partial(_solve_separately, problem, search, separation)


def _merges(problem: SearchProblem, search: Search) -> Proposals:
    x, y, known = problem.x, problem.y, problem.surrogates
    found = [merge for merge in merges(x, y, known) if problem.inputs > 2 or merge.kind != "general"]
    if not found and known[0].error > MERGE_BY_TRIAL_ERROR:
        found = list(merge_by_trial(x, y, known[0].error))
    for merge in found:
        yield f"merged {merge.kind} {merge.inputs} {merge.beta}", partial(_solve_merged, problem, search, merge)


def _affine_in_inputs(problem: SearchProblem, search: Search) -> Proposals:
    return _affine_forms(problem, search, affine_inputs(problem.x, problem.y, problem.surrogates)[:MOST_AFFINE])


def _affine_forms(problem: SearchProblem, search: Search, forms: Iterable[AffineIn]) -> Proposals:
    for form in forms:
        yield (
            f"affine in {form.inner} {form.i}: {form.P_inputs} {form.Q_inputs}",
            partial(_affine, problem, search, form),
        )


def _join(
    found: FittedNetwork, join: Callable[[Node], Node], problem: SearchProblem, search: Search, steps: int | None = None
) -> FittedNetwork:
    """The law from that of a part, or from the most informative of its rivals. It is `sure` if the part is."""
    laws = [search.judge(join(found.tree), problem, steps)]
    laws += [search.judge(join(tree), problem, steps=0) for tree in found.rivals]  # fitted again at the end
    settled = [law for law in laws if settles(law, problem)]
    best = most_informative(settled[:MOST_COMPARED], problem, search) if found.rivals else None
    best = laws[0] if best is None else best
    return replace(best, sure=found.sure, rivals=tuple(law.tree for law in settled if law is not best))


def _solve_by_part(
    part: SearchProblem, join: Callable[[Node], Node], problem: SearchProblem, search: Search, steps: int | None = None
) -> FittedNetwork | None:
    """Solve a smaller problem with a share of the budget, and build the law from its law."""
    with search.within(BUDGET_SHARE):
        found = solve(part, search)
    return None if found is None else _join(found, join, problem, search, steps)


def _power_law(problem: SearchProblem, search: Search, scale: float, powers: Sequence[float]) -> FittedNetwork:
    """Judge the power law. For noisy data with one input it is not `sure`, since other forms may fit as well."""
    found = search.judge(compose.monomial(range(problem.inputs), powers, scale), problem)
    alone = found.error < problem.exact or problem.inputs > 1 or not problem.noisy
    return replace(found, sure=found.sure and alone)


def _of_reciprocal(
    problem: SearchProblem, search: Search, solve: Callable[[SearchProblem, Search], FittedNetwork | None]
) -> FittedNetwork | None:
    found = solve(problem.part(1 / problem.x, problem.y), search)
    if found is None:
        return None
    node = compose.monomial([0], [-1.0])
    return search.judge(compose.substitute(rename_inputs(found.tree, (1,)), 1, node), problem)


def _try_linked_of_reciprocal(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    return _of_reciprocal(problem, search, closed_forms.find_linked)


def _of_fewer(problem: SearchProblem, search: Search, kept: tuple[int, ...]) -> FittedNetwork | None:
    part = problem.part(problem.x[:, kept], problem.y)
    return _solve_by_part(part, lambda tree: rename_inputs(tree, kept), problem, search, steps=0)


def _divide_by_powers(problem: SearchProblem, search: Search, powers: dict[int, float]) -> FittedNetwork | None:
    weight = np.prod([raise_to(problem.x[:, i], p) for i, p in powers.items()], axis=0)
    kept = tuple(i for i in range(problem.inputs) if i not in powers)
    part = problem.divide(problem.x[:, kept], weight, _usable(weight))
    factor = compose.monomial(list(powers), list(powers.values()))
    return _solve_by_part(part, lambda tree: compose.product([factor, rename_inputs(tree, kept)]), problem, search)


def _solve_scaled(problem: SearchProblem, search: Search, scaling: Scaling) -> FittedNetwork | None:
    """Solve y = Π x_i^p_i · F(groups) for F."""
    powers = [float(p) for p in scaling.powers]
    weight = np.prod(
        [np.ones(len(problem.x)), *(raise_to(problem.x[:, i], p) for i, p in enumerate(powers) if p)], axis=0
    )
    usable = _usable(weight)
    rest = (problem.y / weight)[usable]
    count = scaling.values.shape[1]
    signs = _choose_signs(scaling.values[usable], rest, range(count) if count > 1 else [])
    values = np.stack([raise_to(column, p) for column, p in zip(scaling.values.T, signs, strict=True)], axis=1)

    def join(tree: Node) -> Node:
        tree = rename_inputs(tree, tuple(range(problem.inputs, problem.inputs + len(signs))))
        for k, (group, sign) in enumerate(zip(scaling.groups, signs, strict=True)):
            node = compose.monomial(range(problem.inputs), [sign * p for p in group])
            tree = compose.substitute(tree, problem.inputs + k, node)
        return compose.product([compose.monomial(range(problem.inputs), powers), tree]) if any(powers) else tree

    return _solve_by_part(problem.divide(values, weight, usable), join, problem, search)


def _choose_signs(values: Array, y: Array, which: Sequence[int]) -> list[float]:
    """The exponent for each column of values (N, k): -1 where, in `which`, a cubic in 1/z fits y better; else 1."""
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


def solve_with(problem: SearchProblem, search: Search, scaling: Scaling) -> FittedNetwork | None:
    """Solve a problem whose scaling is known in advance, for example from units."""
    if scaling.groups:
        return _solve_scaled(problem, search, scaling)
    powers = [float(p) for p in scaling.powers]
    weight = np.prod([raise_to(problem.x[:, i], p) for i, p in enumerate(powers)], axis=0)
    return _power_law(problem, search, float(weight @ problem.y / (weight @ weight)), powers)


def _usable(weight: Array) -> NDArray[np.bool_]:
    """Mask of the rows whose weight is far enough from zero that dividing by it does not amplify the noise much."""
    sizes = np.abs(weight)
    most, large = np.quantile(sizes, (MOST_LEFT_OUT, 0.9))
    usable: NDArray[np.bool_] = sizes >= min(LEAST_WEIGHT * large, most)
    return usable


def _single(problem: SearchProblem, search: Search, single: Single) -> FittedNetwork | None:
    build = compose.monomial if single.kind == "product" else compose.linear
    node = build(range(problem.inputs), single.weights)

    def join(tree: Node) -> Node:
        return compose.substitute(rename_inputs(tree, (problem.inputs,)), problem.inputs, node)

    return _solve_by_part(problem.part(single.values[:, None], problem.y), join, problem, search)


def _solve_separately(problem: SearchProblem, search: Search, separation: Separation) -> FittedNetwork | None:
    trees = []
    with search.within(BUDGET_SHARE):
        for k, part in enumerate(separation.parts):
            values = separation.values[:, k]
            gain = 1.0
            if separation.kind == "sum":
                whole = float(np.sqrt(np.mean(separation.link.forward(problem.y) ** 2)))
                gain = max(1.0, whole / (float(values.std()) or 1.0))
            tree = _part(problem, search, values, part, gain * separation.error)
            if tree is None:
                return None
            trees.append(tree)
    joined = compose.total(trees) if separation.kind == "sum" else compose.product(trees)
    return search.judge(apply_inverse_link(joined, separation.link), problem)


def _solve_merged(problem: SearchProblem, search: Search, merge: Merge) -> FittedNetwork | None:
    """Replace the inputs of a merge by one variable z. If z is not of a known form, its own formula comes first."""
    i, *others = merge.inputs
    exact = problem.exact
    if merge.kind == "general" or merge.beta is None:
        found = _part(problem, search, merge.values, merge.inputs, merge.error)
        if found is None:
            return None
        node, exact = found, max(exact, PART_TOLERANCE * merge.error)
        merged = evaluate(network(node, problem.inputs).kan, problem.x)[:, 0]
    elif merge.kind == "sum":
        node = compose.linear(merge.inputs, (1.0, merge.beta))
        merged = problem.x[:, i] + merge.beta * problem.x[:, others[0]]
    else:
        merged = problem.x[:, i] * raise_to(problem.x[:, others[0]], merge.beta)
        kept = [k for k in range(problem.inputs) if k not in merge.inputs]
        (*_, sign) = _choose_signs(np.column_stack([problem.x[:, kept], merged]), problem.y, [len(kept)])
        node = compose.monomial(merge.inputs, (sign, sign * merge.beta))
        merged = raise_to(merged, sign)
    if not np.isfinite(merged).all():
        return None
    kept = [k for k in range(problem.inputs) if k not in merge.inputs]
    smaller = np.column_stack([problem.x[:, kept], merged])
    part = problem.part(smaller, problem.y, exact, merge.kind != "general")

    def join(tree: Node) -> Node:
        return compose.substitute(rename_inputs(tree, (*kept, problem.inputs)), problem.inputs, node)

    return _solve_by_part(part, join, problem, search)


def _affine(problem: SearchProblem, search: Search, affine: AffineIn) -> FittedNetwork | None:
    """Solve y = P + g(x_i)·Q. Q comes first, since it usually has fewer inputs."""
    terms: list[Node] = []
    with search.within(BUDGET_SHARE):
        slope = _part(problem, search, affine.values[:, 1], affine.Q_inputs, affine.errors[1])
        if slope is None:
            return None
        terms.append(compose.product([compose.inner(affine.i, affine.inner), slope]))
        level = _part(problem, search, affine.values[:, 0], affine.P_inputs or (affine.i,), affine.errors[0])
        if level is None:
            return None
        terms.append(level)
    return search.judge(apply_inverse_link(compose.total(terms), affine.link), problem)


def _part(problem: SearchProblem, search: Search, values: Array, columns: Sequence[int], error: float) -> Node | None:
    """Find the tree of a part whose values are known up to an error."""
    if not np.isfinite(values).all():
        return None
    tolerance = max(PART_TOLERANCE * error, LEAST_PART_TOLERANCE)
    found = solve(problem.part(problem.x[:, list(columns)], values, tolerance, measured=False), search)
    if found is None or found.error > max(10 * tolerance, LARGEST_PART_ERROR):
        return None
    return rename_inputs(found.tree, tuple(columns))


STAGES: tuple[Stage, ...] = (
    Stage("rows without 0", _always, _on_nonzero_rows),
    Stage("power law", _always, _power_laws),
    Stage("closed forms", _exact, _propose_closed_forms),
    Stage("low polynomial", _inexact_part, _single_attempt("function of a low polynomial", near_low_polynomial)),
    Stage("forms of one input", _is_scattered_in_one_input, _single_attempt("form of one input", one_input_law)),
    Stage("quotient", _few_measured_inputs, _single_attempt("polynomial or quotient", polynomial_or_quotient)),
    Stage(
        "closed form of 1/x",
        _exact_one_signed_input,
        _single_attempt("function of a closed form of 1/x", _try_linked_of_reciprocal),
    ),
    Stage("functions times lines", _near_exact_one_input, _functions_times_lines),
    Stage("shapes of one input", _one_input, _single_attempt("shapes", by_shapes)),
    Stage("forms of one exact input", _exact_one_input, _single_attempt("form of one input", one_input_law)),
    Stage("additive", _several_measured_inputs, _single_attempt("sum of functions of one input", additive)),
    Stage("irrelevant inputs", _divisible, _irrelevant_inputs),
    Stage("scaling", _divisible, _scale_symmetries),
    Stage("power factors", _divisible, _power_factors),
    Stage("single index", _divisible, _single_indices),
    Stage("separation", _divisible_many, _separable),
    Stage(
        "quadratic equation",
        _exact_quadratic,
        _single_attempt("root of a quadratic equation", closed_forms.root_of_quadratic),
    ),
    Stage("merges", _divisible, _merges),
    Stage("bilinear", _exact_bilinear, _single_attempt("sine of a bilinear form", wave_forms.sine_of_bilinear_form)),
    Stage("affine", _divisible_many, _affine_in_inputs),
    Stage("shapes", _several_inputs, _single_attempt("shapes", by_shapes)),
)
