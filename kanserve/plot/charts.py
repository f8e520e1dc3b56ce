"""Charts of results: formulas by complexity and error, residuals, and losses over time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.dataset import Dataset, Target, TrainingData, dataset
from kanserve.errors import DataError, InputError
from kanserve.network.encoding import encode, encodes
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.network.training_range import has_range, ranges
from kanserve.plot.matplotlib_scene import Width, colours, inches, log_scale, new_axes, plain_axes, shade, word
from kanserve.plot.palette import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

ROWS = 2000
NAMED = 12  # formulas that are written beside their points
BINS = 31


class Named(Protocol):
    """A formula's name and text."""

    @property
    def text(self) -> str: ...
    @property
    def name(self) -> str: ...


class Scored(Protocol):
    """A formula with its complexity and its validation error."""

    @property
    def formula(self) -> Named: ...
    @property
    def complexity(self) -> float: ...
    @property
    def validation(self) -> float: ...


class Front(Protocol):
    """The interface of a result of `kanserve.find_formulas`."""

    @property
    def candidates(self) -> Sequence[Scored]: ...
    @property
    def best(self) -> Scored: ...


class Done(Protocol):
    """The interface of a step of a session, or an event of a long call: it has a loss."""

    @property
    def loss(self) -> float: ...


def plot_pareto(findings: Front, ax: "Axes | None" = None, *, theme: Theme = "auto", width: Width = None) -> "Axes":
    """Draw the formulas that a search found: their error over their complexity, as a staircase.

    Parameters
    ----------
    findings : Findings
        What `find_formulas` returned.
    ax, theme, width
        As in `plot_network`.

    Returns
    -------
    matplotlib Axes
        The recommended formula is a filled point.

    Raises
    ------
    InputError
        Unknown theme or width.
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
    >>> found = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000)
    >>> kanserve.plot_pareto(found).get_xlabel()
    'complexity'
    """
    tones = colours(theme, ax)
    wide = inches(width) or 5.4
    axes = new_axes(ax, (wide, max(0.62 * wide, 2.3)), tones)
    plain_axes(axes, tones)
    complexity = np.array([candidate.complexity for candidate in findings.candidates], float)
    errors = np.array([candidate.validation for candidate in findings.candidates], float)
    # An exact law has an error of rounding, or 0, which has no logarithm.
    floor = max(float(errors[errors > 0].min(initial=1.0)) * 0.5, 1e-16)
    shown = np.maximum(errors, floor)
    log_scale(axes, float(shown.min()), float(shown.max()))
    last = float(complexity.max()) * 1.25 + 1
    axes.step([*complexity, last], [*shown, shown[-1]], where="post", color=tones.of("snapped"), linewidth=1.6)
    best = [candidate is findings.best for candidate in findings.candidates].index(True)
    ring: dict[str, Any] = {"markeredgecolor": tones.of("snapped"), "markeredgewidth": 1.5, "zorder": 4}
    axes.plot(complexity, shown, "o", markersize=6, markerfacecolor=tones.paper or "none", linestyle="", **ring)
    axes.plot(complexity[best], shown[best], "o", markersize=7, color=tones.of("snapped"), zorder=5)
    for n, candidate in enumerate(findings.candidates[-NAMED:], start=max(0, len(findings.candidates) - NAMED)):
        # Right of the middle there is room below the stairs, at the left of the point.
        place, ha, va = ((-6, -6), "right", "top") if complexity[n] > 0.55 * last else ((5, 5), "left", "bottom")
        axes.annotate(
            word(candidate.formula.text, 30),
            (complexity[n], shown[n]),
            place,
            ha=ha,
            va=va,
            textcoords="offset points",
            fontsize=8,
            color=tones.of("ink" if n == best else "second"),
            weight="bold" if n == best else "normal",
            parse_math=False,
        )
    axes.set_xlim(max(0.0, float(complexity.min()) - 1), last)
    axes.set_ylim(float(shown.min()) / (shown.max() / shown.min()) ** 0.12 / 1.1, None)  # room below the last
    axes.set_xlabel("complexity")
    axes.set_ylabel("validation error")
    axes.set_title(f"{word(findings.best.formula.name)}: {len(complexity)} formulas", fontsize=10, parse_math=False)
    return axes


def plot_residuals(
    kan: Kan,
    data: TrainingData,
    ax: "Axes | None" = None,
    *,
    output: int | str = 0,
    target: Target = None,
    theme: Theme = "auto",
    width: Width = None,
) -> "Axes":
    """Draw the residuals of an output against its prediction, with their distribution at the right.

    The band is two standard deviations wide on each side. Triangles are samples outside the training range.

    Parameters
    ----------
    kan : Kan
        The network.
    data : Dataset, tuple of array_like or DataFrame
        Samples: a Dataset, (x, y), or a pandas or polars table with `target`; categories and missing values as in the
        fit. Of more than 2000, that many at even distances.
    ax, theme, width
        As in `plot_network`.
    output : int or str, default=0
        The index or the name of the output.
    target : str or sequence of str, optional
        The columns of a DataFrame that the network answers with.

    Returns
    -------
    matplotlib Axes
        The points are y minus the prediction, in the units of y.

    Raises
    ------
    InputError
        Unknown output, theme or width.
    DataError
        The data are not those of such a network, or it is finite on none of them.
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x", ranges={"x": (0, 1)})
    >>> kanserve.plot_residuals(kan, ([[0.1], [0.4], [0.8]], [0.2, 0.9, 1.6])).get_xlabel()
    'predicted y'
    """
    rows = _samples(kan, data, target)
    names = [variable.name for variable in kan.outputs]
    q = names.index(output) if output in names else output
    if isinstance(q, str) or not -len(names) <= q < len(names):
        raise InputError(f"The outputs are {', '.join(names[:20])}; got {output!r:.60}.")
    if rows.y.shape[1] != len(names):
        raise DataError(f"The network has {len(names)} outputs, the data {rows.y.shape[1]}.")
    picked = np.unique(np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int))
    x, y = rows.x[picked], rows.y[picked, q]
    guess = evaluate(kan, x)[:, q]
    finite = np.isfinite(guess)
    if not finite.any():
        raise DataError("The network is finite on none of the rows.")
    x, residual, guess = x[finite], (y - guess)[finite], guess[finite]
    outside = _outside(kan, x)
    tones = colours(theme, ax)
    wide = inches(width) or 5.0
    axes = new_axes(ax, (wide, max(0.62 * wide, 2.3)), tones)
    plain_axes(axes, tones)
    deviation = float(residual.std())
    axes.axhspan(-2 * deviation, 2 * deviation, color=shade(tones, "snapped", 0.1), linewidth=0, zorder=0)
    axes.axhline(0, color=tones.of("third"), linewidth=0.8, zorder=1)
    dot: dict[str, Any] = {"linestyle": "", "zorder": 2}
    axes.plot(guess[~outside], residual[~outside], ".", markersize=3.5, color=tones.of("ink"), alpha=0.55, **dot)
    axes.plot(
        guess[outside],
        residual[outside],
        "^",
        markersize=5,
        markerfacecolor="none",
        markeredgecolor=tones.of("outside"),
        **dot,
    )
    inset = axes.inset_axes((1.01, 0.0, 0.09, 1.0), sharey=axes)
    inset.hist(residual, BINS, orientation="horizontal", color=shade(tones, "density"))
    inset.set_axis_off()
    name = word(names[q])
    unit = f" ({word(kan.outputs[q].unit)})" if kan.outputs[q].unit else ""
    axes.set_xlabel(f"predicted {name}{unit}", parse_math=False)
    axes.set_ylabel("residual", parse_math=False)
    said = f"{len(guess):,} samples"
    beyond = int(outside.sum())
    axes.set_title(f"{said}, {beyond:,} outside the training range" if beyond else said, fontsize=10)
    return axes


def plot_losses(
    history: Sequence[Done], ax: "Axes | None" = None, *, theme: Theme = "auto", width: Width = None
) -> "Axes":
    """Draw the loss over the steps of a session or over the events of a long call.

    Parameters
    ----------
    history : sequence
        `session.history`, or the events that a call such as `simplify` gave to `report`.
    ax, theme, width
        As in `plot_network`.

    Returns
    -------
    matplotlib Axes
        The lowest loss is a diamond. Losses that are not finite are left out.

    Raises
    ------
    InputError
        No loss is finite, or an unknown theme or width.
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 1))
    >>> events = []
    >>> kan = kanserve.fit([1, 1], (x, np.sin(3 * x)), starts=1, progress=events.append)
    >>> kanserve.plot_losses(events).get_ylabel()
    'loss'
    """
    losses = np.array([done.loss for done in history], float)
    finite = np.isfinite(losses)
    if not finite.any():
        raise InputError(f"None of the {len(losses)} losses is finite.")
    tones = colours(theme, ax)
    wide = inches(width) or 5.0
    axes = new_axes(ax, (wide, max(0.5 * wide, 2.1)), tones)
    plain_axes(axes, tones)
    steps, losses = np.flatnonzero(finite) + 1, losses[finite]
    if losses.min() > 0 and losses.max() > 20 * losses.min():
        log_scale(axes, float(losses.min()), float(losses.max()))
    axes.step(steps, losses, where="mid", color=tones.of("spline"), linewidth=1.4)
    if len(steps) <= 60:
        ring: dict[str, Any] = {
            "markerfacecolor": tones.paper or "none",
            "markeredgecolor": tones.of("spline"),
            "linestyle": "",
        }
        axes.plot(steps, losses, "o", markersize=4, **ring)
    best = int(losses.argmin())
    axes.plot(steps[best], losses[best], "D", markersize=6, color=tones.of("good"), zorder=5)
    axes.annotate(
        f"lowest: {losses[best]:.3g}",
        (steps[best], losses[best]),
        (0, 7),
        textcoords="offset points",
        ha="right" if best > len(steps) / 2 else "left",
        fontsize=8,
        color=tones.of("good"),
    )
    named = [str(getattr(done, "step", "")) for done in history]
    labelled = len(steps) <= 12 and all(named)
    if labelled:
        labels = [word(named[step - 1], 24) for step in steps.tolist()]
        axes.set_xticks(steps, labels=labels, rotation=35, ha="right", parse_math=False)
    axes.set_xlabel("" if labelled else "step")
    axes.set_ylabel("loss")
    axes.set_title(f"{len(history)} steps, loss {losses[0]:.3g} to {losses[-1]:.3g}", fontsize=10)
    return axes


def _samples(kan: Kan, data: TrainingData, target: Target) -> Dataset:
    """The samples in the network's category codes. Raises DataError if it has no number for a value."""
    known = {variable.name: variable.categories for variable in kan.inputs if variable.categories}
    wanted = [variable.name for variable in kan.inputs]
    rows = dataset(data, target, classes=kan.classes, tables=True, known=known, wanted=wanted)
    if rows.x.shape[1] != len(wanted):
        return rows
    for name, own in rows.categories.items():
        if own != known.get(name, ()):
            raise DataError(
                f"Input {name!r} has the categories {', '.join(own)[:200]} in the data, and "
                f"{', '.join(known.get(name, ()))[:200] or 'none'} in the network. Give a DataFrame with those alone."
            )
    replace(rows, x=encode(kan, rows.x) if encodes(kan) else rows.x, categories={}).check_numbers()
    return rows


def _outside(kan: Kan, x: ArrayLike) -> NDArray[np.bool_]:
    """Mask (N,) of the rows outside the training range of an input."""
    spans, rows = ranges(kan)[has_range(kan)], np.asarray(x)[:, has_range(kan)]
    return np.array(((rows < spans[:, 0]) | (rows > spans[:, 1])).any(axis=1))
