"""Levenberg-Marquardt on all free parameters of a network, from their present values. A step s solves (J'J + R + μ·D)·s
= -g with D = max(diag, 1e-2·max diag); the floor bounds steps in directions that the data do not determine. A step is
taken only if the new loss is finite and smaller, so a fit never ends worse than it began. The damping follows Nielsen
(Madsen, Nielsen, Tingleff, Methods for non-linear least squares problems, 2004)."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve import native
from kanserve.data.row_weights import scale_weights
from kanserve.errors import DataError, TrainingError
from kanserve.network.evaluate import as_rows
from kanserve.network.kan import Kan
from kanserve.network.own_functions import own_functions
from kanserve.train.argument_checks import not_negative, whole
from kanserve.train.fit_progress import Event, Report, reporting
from kanserve.train.lm import jacobian
from kanserve.train.lm.blas_threads import threads_for
from kanserve.train.lm.compiled_descent import Compiled
from kanserve.train.lm.damped_solve import by_residuals, solve_damped
from kanserve.train.lm.monotone_descent import MonotonePoint, Signs, Steps, edge_signs, monotone
from kanserve.train.lm.parameter_vector import Constant, Free, Penalty, free_parameters, gather, penalty, scatter
from kanserve.train.lm.reweighted_squares import CompiledReweighted, ReweightedProblem
from kanserve.train.losses import LossFunction

Array = NDArray[np.float64]

LEVENBERG_MARQUARDT_PATIENCE = 4
SMALL_GAIN = 1e-3  # relative: a step that gains less counts against the patience
FLOOR = 1e-2  # least element of the damped diagonal, relative to its largest
MOST_DAMPING = 1e12  # above it no step gains: the descent ends
LEAST_DAMPING = 1e-15  # damping is not lowered further

MOST_PARAMETERS = 8000  # a step holds three square matrices of this size: 1.5 GB


class Problem(Protocol):
    """A least-squares problem. `loss` returns ½·Σr² and a state, from which `normal_equations` computes J'J and J'r."""

    @property
    def size(self) -> int: ...

    def loss(self, vector: Array) -> tuple[float, Any]: ...

    def normal_equations(self, vector: Array, state: Any) -> tuple[Array, Array]: ...


def refine(
    kan: Kan,
    x: ArrayLike,
    y: ArrayLike,
    *,
    steps: int = 100,
    smooth: float = 0.0,
    ridge: float = 1e-12,
    weights: ArrayLike | None = None,
    patience: int = LEVENBERG_MARQUARDT_PATIENCE,
    progress: bool | Report = False,
    proximal: float = 0.0,
    fixed: frozenset[Constant] = frozenset(),
    loss: LossFunction | None = None,
    monotonic_cst: Sequence[int] = (),
    jumps: float = 0.0,
) -> Kan:
    """Fit a network to samples by least squares, from its weights.

    The free parameters are those of `parameter_vector.free_parameters`, without the `fixed` constants of named edges.
    The loss is ½·mean ‖(prediction - y)/output_scale‖², with rows weighted by `weights` (N,), plus ½·ridge·‖θ‖² and
    `smooth` times the splines' squared second differences. `proximal` adds ½·proximal·‖θ - θ0‖² around the initial
    parameters θ0: parameters that these rows do not determine stay as they were instead of going to 0. Another `loss`
    takes the place of the squares, of scores in the network before the exponential of a log link. With `monotonic_cst`,
    a sign for each input as of `kanserve.fit`, the network is made monotone first and stays so. `jumps` times the
    squared jumps of the splines' highest derivatives at the knots is for exact data: where few rows determine a spline,
    it goes on as a polynomial.

    The same call gives the same network, bit for bit, on one kind of processor; the compiled kernels give it on any
    number of threads. Another kind of processor, or NumPy in place of these kernels, rounds differently.

    Continual learning: call `kan = refine(kan, x, y, ridge=0, proximal=1e-10)` for each phase of rows. It keeps what
    earlier phases taught if the network has one layer, no base function (`create(.., base="zero")`; a base weight acts
    everywhere) and a fixed grid. Old rows are forgotten only within three intervals of new ones, so the grid must be
    fine. In two layers all rows share the edges of the second, and it forgets: see examples/continual.py.

    Parameters
    ----------
    kan : Kan
        The network to begin with.
    x : array_like of shape (n_samples, n_inputs)
        Inputs, in raw units.
    y : array_like of shape (n_samples, n_outputs)
        The targets.
    steps : int, default=100
        The most iterations.
    smooth, ridge, proximal, jumps : float
        Strengths of the penalties above, 0 or more.
    weights : array_like of shape (n_samples,), optional
        Of the rows.
    patience : int
        The fit ends when so many steps in a row gain less than a thousandth each.
    progress : bool or callable, default=False
        True shows the progress: in a notebook as a picture, elsewhere as lines on the standard error. A callable is
        called with an event after each accepted step: its `stage` is "step 3", its `loss` the loss.
    fixed : frozenset, optional
        Constants of named edges that stay.
    loss : LossFunction, optional
        In place of the squares.
    monotonic_cst : sequence of int, optional
        A sign for each input.

    Returns
    -------
    Kan
        The fitted network; the one given if that is not finite on these rows.

    Raises
    ------
    TrainingError
        An option is out of range, or the network has too many parameters.
    DataError
        The shapes of x, y or `weights` do not fit the network, or a number is not finite.

    Examples
    --------
    >>> import kanserve, kanserve.train
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> refined = kanserve.train.refine(kan, [[0.0], [0.5], [1.0]], [[1.0], [3.0], [5.0]])
    >>> refined([[0.25]]).round(6).tolist()
    [[2.0]]
    """
    if not (whole(steps, 0) and whole(patience, 1)):
        raise TrainingError(f"steps ≥ 0 and patience ≥ 1 are needed, whole numbers; got {steps!r} and {patience!r}.")
    for name, strength in (("smooth", smooth), ("ridge", ridge), ("proximal", proximal), ("jumps", jumps)):
        if not not_negative(strength):
            raise TrainingError(f"{name} is a finite number of 0 or more, got {strength!r}.")
    rows, answers, shares = _check(kan, x, y, weights)
    signs = edge_signs(kan, monotonic_cst) if any(monotonic_cst) else None
    kan = kan if signs is None else monotone(kan, signs)
    free = free_parameters(kan, fixed)
    size = sum(layer.size for layer in free)
    if size > MOST_PARAMETERS:
        raise TrainingError(
            f"Levenberg-Marquardt takes at most {MOST_PARAMETERS} parameters, this network has {size}. "
            "Prune it, use coarser grids, or fit it with optimizer='lbfgs'."
        )
    if size == 0:
        return kan
    with threads_for(answers.size * size**2):
        point = _start(
            kan, free, penalty(kan, free, ridge, smooth, proximal, jumps), rows, answers, shares, loss, signs
        )
        before = point.error
        if not np.isfinite(before):
            return kan
        with reporting(progress) as report:
            descend(point, steps, patience, report)
    if point.error > before and smooth == 0:  # the ridge alone must not make the fit worse
        return kan
    return scatter(kan, free, point.vector)


def _start(
    kan: Kan,
    free: tuple[Free, ...],
    cost: Penalty,
    x: Array,
    y: Array,
    row_weights: Array | None,
    loss: LossFunction | None,
    signs: Signs | None,
) -> "Descent":
    other = None if loss is None or loss.name == "squared" else loss
    if signs is not None:
        many = ReweightedProblem(other, kan, free, x, y, row_weights) if other else None
        problem = many or jacobian.problem(kan, x, y, row_weights, free)
        return MonotonePoint(problem, cost, gather(kan, free), Steps.of(free, signs))
    compiled = native.library() is not None and not own_functions(kan)
    if other is not None:
        if compiled:
            return CompiledReweighted(other, kan, free, cost, x, y, row_weights)
        return Point(ReweightedProblem(other, kan, free, x, y, row_weights), cost, gather(kan, free))
    if compiled:
        return Compiled(kan, free, cost, x, y, row_weights)
    squares = jacobian.problem(kan, x, y, row_weights, free)
    kind = FewResiduals if by_residuals(y.size, squares.size) else Point
    return kind(squares, cost, gather(kan, free))


def minimise(
    problem: Problem, start: Array, penalty: Penalty, steps: int, patience: int, report: Report | None = None
) -> Array:
    """Minimise the loss plus penalty in at most `steps` iterations from `start`. Returns the best vector."""
    point = Point(problem, penalty, start)
    descend(point, steps, patience, report)
    return point.vector


def descend(point: "Descent", steps: int, patience: int, report: Report | None) -> None:
    """Minimise in at most `steps` iterations; stop early after `patience` small gains in a row."""
    damping, growth, small_gains = 1e-2, 2.0, 0
    moved = True
    for step in range(steps):
        if moved and not point.linearise(FLOOR):
            break
        new, predicted = point.attempt(damping)
        moved = new < point.value
        if not moved:
            damping *= growth
            growth *= 2
            if damping > MOST_DAMPING:
                break
            continue
        gain = point.value - new
        ratio = gain / predicted if predicted > 0 else 0.5
        damping = max(damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), LEAST_DAMPING)
        growth = 2.0
        small_gains = small_gains + 1 if gain < SMALL_GAIN * point.value else 0
        point.accept()
        if report is not None:
            report(Event(f"step {step}", new))
        if small_gains == patience or new == 0:
            break


class Descent(Protocol):
    """The state of a fit: its vector, and the damped step that was attempted last."""

    @property
    def vector(self) -> Array: ...

    @property
    def error(self) -> float:
        """The loss at the vector, without the penalty."""

    @property
    def value(self) -> float:
        """The loss plus the penalty."""

    def linearise(self, floor: float) -> bool:
        """Compute the normal equations at the vector; `floor` bounds the damped diagonal from below, relative to its
        maximum. Returns False if no step can help: they are not finite, or the gradient is 0."""

    def attempt(self, damping: float) -> tuple[float, float]:
        """Try a damped step. Returns the new value (perhaps infinite) and the fall that the model predicts."""

    def accept(self) -> None:
        """Take the step that was attempted last."""


class Point:
    """A descent in NumPy, for any problem."""

    def __init__(self, problem: Problem, penalty: Penalty, vector: Array) -> None:
        self._problem, self._penalty = problem, penalty
        self.vector = self._trial = vector
        self.error, self._state = problem.loss(vector)
        self.value = self.error + penalty.value(vector)
        self._new, self._trial_state = (self.error, self.value), self._state
        self._normal = self._gradient = self._diagonal = np.empty(0)

    def linearise(self, floor: float) -> bool:
        self._normal, self._gradient = self._problem.normal_equations(self.vector, self._state)
        self._penalty.add_to(self._normal, self._gradient, self.vector)
        return self._leads_somewhere(self._normal.diagonal(), floor)

    def _leads_somewhere(self, diagonal: Array, floor: float) -> bool:
        self._diagonal = np.maximum(diagonal, floor * diagonal.max())
        return bool(np.isfinite(self._gradient).all() and np.isfinite(self._diagonal).all() and self._gradient.any())

    def attempt(self, damping: float) -> tuple[float, float]:
        added = damping * self._diagonal
        change = self._change(added)
        self._trial = self.vector + change
        error, self._trial_state = self._problem.loss(self._trial)
        self._new = error, error + self._penalty.value(self._trial) if np.isfinite(error) else np.inf
        return self._new[1], 0.5 * float(change @ (added * change - self._gradient))

    def _change(self, added: Array) -> Array:
        return solve_damped(self._normal, added, -self._gradient)

    def accept(self) -> None:
        self.vector, self._state = self._trial, self._trial_state
        self.error, self.value = self._new


class FewResiduals(Point):
    """`Point` for problems with far more parameters than residuals: its linear systems have the size of the residuals,
    as in native/lm/dual.c."""

    def __init__(self, problem: jacobian.LeastSquaresProblem, penalty: Penalty, vector: Array) -> None:
        super().__init__(problem, penalty, vector)
        self._network = problem
        self._rows = self._residuals = self._slope = np.empty(0)

    def linearise(self, floor: float) -> bool:
        self._rows, self._residuals = jacobian.linearise(self._network, self.vector)
        self._slope = self._penalty.slope(self.vector)
        with np.errstate(all="ignore"):
            self._gradient = self._residuals @ self._rows + self._slope
            diagonal = np.einsum("np,np->p", self._rows, self._rows) + self._penalty.diagonal()
            return self._leads_somewhere(diagonal, floor)

    def _change(self, added: Array) -> Array:
        try:
            both = self._penalty.solve(added, np.column_stack([self._rows.T, self._slope]))
        except np.linalg.LinAlgError:  # damping so weak that the cost of straight splines is lost to rounding
            return np.full(len(added), np.nan)
        columns, alone = both[:, :-1], both[:, -1]
        right = self._residuals - self._rows @ alone
        return -alone - columns @ solve_damped(self._rows @ columns, np.ones(len(right)), right)


def _check(kan: Kan, x: ArrayLike, y: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array, Array | None]:
    rows = as_rows(kan, x)
    try:
        answers = np.asarray(y, dtype=np.float64)
        shares = None if weights is None else np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("Answers and weights must be numbers.") from None
    answers = answers[:, None] if answers.ndim == 1 else answers
    if answers.shape != (len(rows), len(kan.outputs)) or len(rows) == 0:
        raise DataError(
            f"{len(rows)} rows for {len(kan.outputs)} outputs need answers of shape "
            f"({len(rows)}, {len(kan.outputs)}) and at least one row, got {answers.shape}."
        )
    if not (np.isfinite(rows).all() and np.isfinite(answers).all()):
        raise DataError("A fit needs finite numbers; x or y holds NaN or infinity. Drop or fill those rows.")
    if shares is None:
        return rows, answers, None
    if shares.shape != (len(rows),) or not np.isfinite(shares).all() or shares.min() < 0 or not shares.any():
        raise DataError(f"Weights must be {len(rows)} finite numbers, none negative and not all 0.")
    return rows, answers, scale_weights(shares)
