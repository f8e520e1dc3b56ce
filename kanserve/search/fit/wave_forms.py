"""Laws with waves of several inputs that linear algebra finds directly, as trees."""

from collections.abc import Sequence

from kanserve.network.kan import Symbolic
from kanserve.search.fit.problem import Search, SearchProblem
from kanserve.search.fit.training import FittedNetwork
from kanserve.search.regression import budget
from kanserve.search.regression.waves import bilinear_waves, waves
from kanserve.search.trees import compose
from kanserve.search.trees.nodes import Curve, Node, Sum


def product_of_waves(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law as a constant plus a product of two sines of different inputs, if it is exact, else None."""
    budget.count_fit()
    if "sin" not in search.library:
        return None
    for found in waves(problem.x, problem.y):
        if search.over():
            return None
        sines = [
            Sum((Curve(wave.i, Symbolic("sin", wave.factor, wave.shift, size, 0.0), without_constant=True),))
            for wave, size in ((found.first, found.coefficient), (found.second, 1.0))
        ]
        product = compose.product(sines)
        judged = search.judge(
            compose.total([product, compose.constant(float(problem.y.mean()), found.first.i)]), problem
        )
        if judged.error < problem.exact:
            return judged
    return None


def sine_of_bilinear_form(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law as a bilinear form of two inputs plus a sine of another bilinear form, if it is exact, else None."""
    budget.count_fit()
    if "sin" not in search.library:
        return None
    for found in bilinear_waves(problem.x, problem.y):
        if search.over():
            return None
        pair = (found.i, found.j)

        def form(rates: Sequence[float], product: float, pair: tuple[int, int] = pair) -> list[Node]:
            return [compose.linear(pair, rates), compose.monomial(pair, (1.0, 1.0), product)]

        wave = Curve(compose.total(form(found.rates, found.rate)), Symbolic("sin", 1.0, found.phase, found.size, 0.0))
        terms = [*form(found.slopes, found.product), Sum((wave,)), compose.constant(found.level, found.i)]
        judged = search.judge(compose.total(terms), problem)
        if judged.error < problem.exact:
            return judged
    return None
