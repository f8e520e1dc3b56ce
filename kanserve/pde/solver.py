"""The schedule: several starts on a coarse grid and few points, then finer grids on all points. The grids of the first
layer span exactly the box of the points, since outside a spline is straight and its second derivative 0. Ranges of
hidden layers change only when the grid is refined."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import NetworkError, TrainingError
from kanserve.network.kan import Base, Kan, Variable
from kanserve.network.parameter_names import names_parameters
from kanserve.network.splines import uniform_knots
from kanserve.pde.residual_problem import ResidualProblem, problem
from kanserve.pde.residuals import Residual, check
from kanserve.train.argument_checks import grid_sequence, increasing, whole
from kanserve.train.creation import create
from kanserve.train.fit_progress import Event, Report, reporting
from kanserve.train.grids import regrid
from kanserve.train.lm.blas_threads import threads_for
from kanserve.train.lm.levenberg_marquardt import MOST_PARAMETERS, minimise
from kanserve.train.lm.parameter_vector import gather, penalty, scatter

Array = NDArray[np.float64]

RIDGE = 1e-13
PATIENCE = 15  # a differential equation has long plateaus
START_POINTS, START_STEPS = 1000, 25


@names_parameters()
def solve(
    shape: Sequence[int | tuple[int, int]],
    residuals: Residual | Iterable[Residual],
    *,
    grid: int | Sequence[int] = (5, 10, 20),
    steps: int = 40,
    starts: int = 2,
    seed: int = 0,
    order: int = 3,
    base: Base = "silu",
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    scale: ArrayLike = 1.0,
    progress: bool | Report = False,
) -> Kan:
    """Train a network to make residuals small; equal seeds give equal networks.

    Random networks are tried on the coarsest grid. The best goes on through all grids; one that does not lower the loss
    is dropped. `defects` checks the result on points that it was not trained on.

    Parameters
    ----------
    shape : sequence of int
        The nodes of each layer as in `kanserve.create`, inputs first.
    residuals : Residual or iterable of Residual
        Equations and conditions. Points and u are in raw units; the domain is the box of all points.
    grid : int or sequence of int, default=(5, 10, 20)
        Numbers of intervals. A single number is the finest grid; coarser ones come before it.
    steps : int, default=40
        The most iterations on each grid.
    starts : int, default=2
        How many random networks are tried.
    seed : int, default=0
        Of the random networks.
    order : int, default=3
        The degree of the splines.
    base : {"silu", "identity", "zero"}, default="silu"
        The function beside each spline.
    inputs, outputs : sequence of str, optional
        Names.
    scale : float or array_like of shape (n_outputs,), default=1.0
        The expected size of u.
    progress : bool or callable, default=False
        True shows the progress: in a notebook as a picture, elsewhere as lines on the standard error. A callable is
        called with an event: the stage, and the loss ½·Σ mean(weight·residual²).

    Returns
    -------
    Kan
        A network like any other.

    Raises
    ------
    DataError
        A residual cannot be used.
    NetworkError
        The shape, a name or a scale cannot be used.
    TrainingError
        No start gives finite residuals.

    Examples
    --------
    >>> import numpy as np, kanserve.pde as pde
    >>> points = np.linspace(0, 1, 60)[:, None]
    >>> inside = pde.Residual(lambda x, u: u.dd(0, 0) + np.pi**2 * np.sin(np.pi * x[:, 0]), points)
    >>> edge = pde.Residual(lambda x, u: u.value, [[0.0], [1.0]], weight=100.0)
    >>> kan = pde.solve([1, 1], [inside, edge])
    >>> bool(abs(kan([[0.5]])[0, 0] - 1) < 1e-3)  # sin(pi/2)
    True
    """
    grids: Sequence[int] = grid_sequence(grid)
    if not (increasing(grids) and whole(starts, 1) and whole(steps, 1) and whole(seed, 0)):
        raise TrainingError(
            "A fit needs grids that get finer, starts ≥ 1, steps ≥ 1 and a seed ≥ 0, whole numbers; "
            f"got {grids!r}, {starts!r}, {steps!r} and {seed!r}."
        )

    def begin(number: int) -> Kan:
        own = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
        return create(shape, grid=grids[0], order=order, base=base, seed=own)

    every = check(residuals, begin(0).layers[0].inputs)
    points = np.concatenate([np.asarray(residual.points) for residual in every])
    with reporting(progress) as report:
        runs = []
        for number in range(starts):
            kan = _on_domain(begin(number), points, inputs, outputs, scale)
            stage = f"start {number + 1} of {starts}"
            few = problem(kan, every, most=START_POINTS, seed=seed)
            runs.append(_refine(kan, few, START_STEPS, RIDGE, PATIENCE, _at(stage, report)))
        begun = min(runs, key=lambda run: run[1])[0]
        complete = problem(begun, every)
        kan, loss = _refine(begun, complete, steps, RIDGE, PATIENCE, _at(f"grid {grids[0]}", report))
        if not np.isfinite(loss):
            raise TrainingError(_not_finite(complete, kan))
        for intervals in grids[1:]:
            finer = regrid(kan, points, intervals)
            finer, least = _refine(
                finer, problem(finer, every), steps, RIDGE, PATIENCE, _at(f"grid {intervals}", report)
            )
            if least < loss:  # new ranges may raise the loss by more than the steps win back
                kan, loss = finer, least
    return kan


@names_parameters()
def refine(
    kan: Kan,
    residuals: Residual | Iterable[Residual],
    *,
    steps: int = 40,
    ridge: float = RIDGE,
    patience: int = PATIENCE,
    progress: bool | Report = False,
) -> Kan:
    """Reduce the residuals of a network by fitting its splines and the constants of its named functions.

    Parameters
    ----------
    kan : Kan
        A network, of `solve` or after pruning and naming.
    residuals : Residual or iterable of Residual
        As in `solve`.
    steps : int, default=40
        The most iterations.
    ridge : float, default=1e-13
        Of the normal equations, relative to their diagonal.
    patience : int, default=15
        It ends when so many steps in a row gain less than a thousandth each.
    progress : bool or callable, default=False
        As in `solve`.

    Returns
    -------
    Kan
        Never with a higher loss than at the start.

    Raises
    ------
    TrainingError
        A residual is not finite at the start.

    Examples
    --------
    >>> import kanserve, kanserve.pde as pde
    >>> kan = kanserve.from_formula("exp(-1.9*x)", ranges={"x": (0, 1)})
    >>> decay = pde.Residual(lambda x, u: u.d(0) + 2 * u, [[n / 20] for n in range(21)])
    >>> start = pde.Residual(lambda x, u: u.value - 1, [[0.0]])
    >>> refined = pde.refine(kan, [decay, start])
    >>> bool(abs(refined([[1.0]])[0, 0] - 0.135335) < 1e-6)  # exp(-2)
    True
    """
    scheme = problem(kan, check(residuals, len(kan.inputs)))
    with reporting(progress) as report:
        better, loss = _refine(kan, scheme, steps, ridge, patience, report)
    if not np.isfinite(loss):
        raise TrainingError(_not_finite(scheme, kan))
    return better


def defects(kan: Kan, residual: Residual) -> Array:
    """The values of a residual of a network, at points that may differ from those trained on.

    Parameters
    ----------
    kan : Kan
        A network.
    residual : Residual
        An equation or a condition, and its points.

    Returns
    -------
    ndarray of shape (n_equations, n_points)
        0 where the equation holds.

    Raises
    ------
    DataError
        The residual cannot be used.

    Examples
    --------
    >>> import kanserve, kanserve.pde as pde
    >>> kan = kanserve.from_formula("exp(-2*x)", ranges={"x": (0, 1)})
    >>> decay = pde.Residual(lambda x, u: u.d(0) + 2 * u, [[0.25], [0.5]])
    >>> pde.defects(kan, decay).round(9).tolist()
    [[0.0, 0.0]]
    """
    scheme = problem(kan, check(residual, len(kan.inputs)))
    return scheme.values(gather(kan, scheme.free))[0]


def _refine(
    kan: Kan, task: ResidualProblem, steps: int, ridge: float, patience: int, report: Report | None
) -> tuple[Kan, float]:
    """The network after at most `steps` iterations, and its loss; unchanged if the loss is not finite."""
    if task.size > MOST_PARAMETERS:
        raise TrainingError(
            f"Levenberg-Marquardt takes at most {MOST_PARAMETERS} parameters, this network has {task.size}. "
            "Use a smaller shape or coarser grids."
        )
    start = gather(kan, task.free)
    with threads_for(task.rows * task.size**2):
        before = task.loss(start)[0]
        if task.size == 0 or not np.isfinite(before):
            return kan, before
        found = minimise(task, start, penalty(kan, task.free, ridge, 0.0), steps, patience, report)
        after = task.loss(found)[0]
    return (scatter(kan, task.free, found), after) if after <= before else (kan, before)


def _on_domain(kan: Kan, points: Array, inputs: Sequence[str], outputs: Sequence[str], scale: ArrayLike) -> Kan:
    """Normalise the inputs to the box of the points, which the first grids span exactly."""
    low, high = points.min(axis=0), points.max(axis=0)
    constant = high <= low
    shift = low / 2 + high / 2
    half = np.where(constant, 1.0, high / 2 - low / 2)
    first = kan.layers[0]
    # By the same operations that normalise the points, so that rounding puts none outside.
    ends = zip(
        np.where(constant, -1.0, (low - shift) / half), np.where(constant, 1.0, (high - shift) / half), strict=True
    )
    knots = np.stack([uniform_knots(float(a), float(b), first.intervals, first.order) for a, b in ends])
    for names, count, kind in ((inputs, len(low), "inputs"), (outputs, len(kan.outputs), "outputs")):
        if len(names) not in (0, count):
            raise NetworkError(f"{count} {kind} need as many names, got {list(names)}.")
    given = inputs or [variable.name for variable in kan.inputs]
    try:
        sizes = np.broadcast_to(np.asarray(scale, np.float64), len(kan.outputs))
    except (TypeError, ValueError):
        raise NetworkError(f"scale is a number or one for each of {len(kan.outputs)} outputs, got {scale!r}.") from None
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise NetworkError(f"scale must be finite and greater than 0, got {scale!r}.")
    return replace(
        kan,
        layers=(replace(first, knots=knots), *kan.layers[1:]),
        inputs=tuple(Variable(n, low=float(a), high=float(b)) for n, a, b in zip(given, low, high, strict=True)),
        outputs=tuple(Variable(output) for output in outputs) or kan.outputs,
        input_shift=shift,
        input_scale=half,
        output_scale=sizes,
    )


def _at(stage: str, report: Report | None) -> Report | None:
    return None if report is None else lambda event: report(Event(stage, event.loss))


def _not_finite(residual_problem: ResidualProblem, kan: Kan) -> str:
    """An error text that says where a residual is not finite."""
    for number, (term, values) in enumerate(
        zip(residual_problem.terms, residual_problem.values(gather(kan, residual_problem.free)), strict=True), start=1
    ):
        bad: NDArray[np.bool_] = np.array(~np.isfinite(values).all(axis=0))
        if bad.any():
            point = np.asarray(term.residual.points)[bad][0]
            return (
                f"Residual {number} is not finite at {int(bad.sum())} of its {len(bad)} points, the first of them "
                f"{point.tolist()}, with the network that the fit begins with. Write it without logarithms, roots and "
                "quotients of u, or take other points, another seed or more starts."
            )
    return "The loss overflows with the network that the fit begins with. Give the size of u as scale, or less weight."
