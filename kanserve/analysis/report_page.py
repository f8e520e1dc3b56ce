"""`report`: a page about a network on samples: how good it is, and what its predictions are based on."""

from collections.abc import Iterator
from html import escape
from itertools import pairwise, product
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from kanserve import train
from kanserve.analysis.contributions import bars, explain
from kanserve.analysis.shapes import Shapes
from kanserve.data.dataset import Dataset, Target, TrainingData
from kanserve.data.near_names import first_names
from kanserve.errors import DataError
from kanserve.network.evaluate import evaluate, softmax
from kanserve.network.fitted_rows import share_of_fitted_rows, too_many_seen
from kanserve.network.importances import input_importances
from kanserve.network.kan import Kan, require_kan
from kanserve.network.shapley_values import output_names
from kanserve.network.training_range import describe_outside
from kanserve.plot.contribution_bars import contribution_bars
from kanserve.plot.notebook import network_formulas, network_part
from kanserve.plot.page import Html, document, fold, picture, table, text
from kanserve.plot.scene import number
from kanserve.plot.shape_pictures import answers_beside_predictions, common_scale, pair_maps, shape_panels
from kanserve.train.encoded_data import samples_for
from kanserve.train.input_warnings import describe_inputs

Array = NDArray[np.float64]

WIDTH = 800.0
INPUTS = 12  # with panels, the most important
OUTPUTS = 3  # with panels of their own, and in the title
PAIRS, LEAST_PAIR = 3, 0.005  # maps, and the share of the variance from which on a pair has one
ROWS = 10_000  # on which everything but the scores is computed
BINS = 10  # of predictions, or of an input, with whose means the answers are compared
ROWS_OF_A_BIN = 20  # without which the error of a mean is not known well enough
CHANCE = 0.05  # that a tenth of some input is named although the predictions are right everywhere
MOST_MISSES = 5  # of these tenths, those furthest off
MOST_CLASSES = 12  # of a table of who is taken for whom
FOLDS = 5  # of the straight lines; a text on the page says so
ROWS_OF_A_COLUMN = 3  # of these, at least: with fewer rows they are worse than the mean


def report(kan: Kan, data: TrainingData, *, target: Target = None) -> str:
    """A page about a network, on samples: scores, effects of inputs and pairs, contributions to single predictions.

    It needs no other file, no script and no server, and follows the reader's light or dark setting. Give rows that the
    network has not seen: of others the scores are too good, and the page says so.

    Parameters
    ----------
    kan : Kan
        The network.
    data : Dataset, tuple of array_like or DataFrame
        Samples: a Dataset, (x, y), or a table of pandas or polars with `target`.
    target : str or sequence of str, optional
        Of a DataFrame, the columns to learn.

    Returns
    -------
    str
        HTML, as `kanserve report` writes it.

    Raises
    ------
    DataError
        The data have other outputs or classes than the network, or the network is finite on none of their rows.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(size=(60, 2))
    >>> data = kanserve.Dataset(x, x[:, 0] * x[:, 1], inputs=("a", "b"))
    >>> page = kanserve.report(kanserve.from_formula("a*b", ranges={"a": (0, 1), "b": (0, 1)}), data)
    >>> page.startswith("<!doctype html>"), "Effects of the inputs" in page
    (True, True)
    """
    require_kan(kan)
    samples = samples_for(kan, data, target).counted()
    scored = train.score(kan, samples)  # of all rows, and refuses other outputs
    rows = samples.sample(ROWS, 0)
    finite = np.flatnonzero(np.isfinite(evaluate(kan, rows.x)).all(axis=1))
    if not len(finite):
        raise DataError("The network is finite on none of the rows.")
    rows = rows.take(finite)
    names = first_names(kan.classes or [variable.name for variable in kan.outputs], OUTPUTS)
    title = f"A classifier: {names}" if kan.classes else f"A network for {names}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        text(_facts(kan, samples), second=True),
        *_describe_rows(kan, samples),
        *_scores(kan, samples, scored),
        *_effects(kan, rows),
        *_single(kan, rows),
        "<h2>The network</h2>",
        fold("Formula", network_formulas(kan) or text("It has too many edges for a formula.")),
        network_part(kan, rows.x),
    ]
    return document(title, *parts)


def _facts(kan: Kan, data: Dataset) -> str:
    shape = "-".join(map(str, kan.shape))
    kind = f"{len(kan.classes)} classes" if kan.classes else f"{len(kan.outputs)} output{'s'[: len(kan.outputs) > 1]}"
    return f"{len(data):,} rows, {len(kan.inputs)} inputs, {kind}; a Kolmogorov-Arnold network of shape {shape}."


def _describe_rows(kan: Kan, data: Dataset) -> Iterator[Html]:
    """What a reader should know about the rows before seeing the figures."""
    seen = share_of_fitted_rows(kan, data)
    if seen is None:
        yield text("Whether the network was fitted to these rows is unknown: of such rows the scores are too good.")
    elif too_many_seen(seen):
        yield text(f"The network was fitted to {seen:.0%} of these rows: expect worse scores on new ones.")
    else:
        yield text("The network has not seen these rows.")
    for line in [describe_outside(kan, data.x), *describe_inputs(data)]:
        if line:
            yield text(line)


def _scores(kan: Kan, data: Dataset, found: train.Score) -> Iterator[str]:
    """The scores, and targets compared with predictions."""
    yield "<h2>How good its predictions are</h2>"
    if found.accuracy is not None:
        frequencies = data.mean(data.y)
        plain = -float(frequencies @ np.log(np.maximum(frequencies, 1e-300)))
        rows = [
            ("accuracy", f"{found.accuracy:.3f}", f"{frequencies.max():.3f}"),
            ("cross-entropy (nats)", f"{found.loss:.4f}", f"{plain:.4f}"),
        ]
        yield table(("", "network", "class frequencies"), rows, numbers=(1, 2))
        yield from _classes(kan, data)
    else:
        spreads = np.sqrt(data.mean((data.y - data.mean(data.y)) ** 2)).tolist()
        scores = zip(kan.outputs, found.r2, found.rmse, spreads, strict=True)
        lines = [[output.name, f"{r2:.4f}", number(rmse), number(spread)] for output, r2, rmse, spread in scores]
        titles = ["", "R²", "RMSE", "RMSE of the mean"]
        straight = straight_line_errors(data)
        if straight is not None:
            titles.append("RMSE of straight lines")
            lines = [[*line, number(rmse)] for line, rmse in zip(lines, straight, strict=True)]
        yield table(titles, lines, numbers=range(1, len(titles)))
        if straight is not None:
            yield text("Straight lines are fitted to these rows, a fifth left out at a time.", second=True)
    outputs = evaluate(kan, data.x)
    for q, name in enumerate(output_names(kan)[:OUTPUTS]):
        if kan.classes:
            q = 1 if len(kan.classes) == 2 else q
            guess, title = softmax(outputs)[:, q], f"how often it is {kan.classes[q]}"
        else:
            guess, title = outputs[:, q], f"mean {name}"
        fine = np.isfinite(guess)
        yield picture(answers_beside_predictions(guess[fine], data.y[fine, q], title, BINS))
    yield text(
        "Rows by prediction, in tenths: bars are the mean answer with one standard error. On the dashed line "
        "predictions are right on average.",
        second=True,
    )
    if not kan.classes:
        yield from _misses(kan, data)


def _classes(kan: Kan, data: Dataset) -> Iterator[str]:
    """How often each class is taken for each other one, and how well its probability orders the rows."""
    chances, given = softmax(evaluate(kan, data.x)), data.y.argmax(axis=1)
    said = chances.argmax(axis=1)
    if len(kan.classes) > MOST_CLASSES:
        return
    counts = np.zeros((len(kan.classes), len(kan.classes)))
    np.add.at(counts, (given, said), data.weights if data.weights is not None else 1.0)
    yield "<h3>Which class is taken for which</h3>"
    areas = [area_under_roc(chances[:, q], given == q) for q in range(len(kan.classes))]
    lines = [
        [name, *(f"{count:.6g}" for count in row), f"{area:.3f}"]
        for name, row, area in zip(kan.classes, counts.tolist(), areas, strict=True)
    ]
    columns = ["is, is said to be", *kan.classes, "area under the ROC curve"]
    yield table(columns, lines, numbers=range(1, len(columns)))


def area_under_roc(scores: Array, belongs: NDArray[np.bool_]) -> float:
    """The share of the pairs of a row that belongs to a class and one that does not in which the first has the larger
    score; equal scores count half. NaN if there are no such pairs."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    count = int(belongs.sum())
    pairs = count * (len(scores) - count)
    return float(ranks[belongs].sum() - count * (count + 1) / 2) / pairs if pairs else float("nan")


def straight_line_errors(data: Dataset) -> list[float] | None:
    """The root mean square errors of straight lines in all inputs, on rows that are left out in turn; None if there are
    too few rows. A category is one input, and so is a missing value."""
    columns = [np.ones(len(data))]
    for i, name in enumerate(data.inputs):
        column = np.where(np.isfinite(data.x[:, i]), data.x[:, i], np.nan)
        if name in data.categories:
            columns += [column == code for code in range(1, len(data.categories[name]))]
        else:
            mean = np.nanmean(column) if np.isfinite(column).any() else 0.0
            columns += [np.where(np.isnan(column), mean, column)]
        columns += [np.isnan(column)] * bool(np.isnan(column).any())
    design = np.column_stack([np.asarray(column, np.float64) for column in columns])
    if len(data) < ROWS_OF_A_COLUMN * design.shape[1]:
        return None
    design[:, 1:] -= design[:, 1:].mean(axis=0)
    design /= np.maximum(np.abs(design).max(axis=0), 1e-300)
    roots = np.sqrt(data.weights if data.weights is not None else np.ones(len(data)))[:, None]
    errors = np.empty_like(data.y)
    for out in np.array_split(np.random.default_rng(0).permutation(len(data)), FOLDS):
        kept = np.delete(np.arange(len(data)), out)
        lines = np.linalg.lstsq(design[kept] * roots[kept], data.y[kept] * roots[kept], rcond=1e-10)[0]
        errors[out] = data.y[out] - design[out] @ lines
    return [float(error) for error in np.sqrt(data.mean(errors**2))]


def _misses(kan: Kan, data: Dataset) -> Iterator[str]:
    """Where, in tenths of an input, answers are above or below the predictions by more than chance explains."""
    errors, found = data.y - evaluate(kan, data.x), list[tuple[float, str]]()
    numbers = [i for i, name in enumerate(data.inputs) if name not in data.categories]
    tenths = BINS * len(numbers) * len(kan.outputs)
    most = NormalDist().inv_cdf(1 - 0.5 * CHANCE / max(tenths, 1))
    for q, i in product(range(len(kan.outputs)), numbers):
        column, finite = data.x[:, i], np.isfinite(data.x[:, i]) & np.isfinite(errors[:, q])
        ends = np.quantile(column[finite], np.linspace(0, 1, BINS + 1)) if finite.any() else ()
        for low, high in pairwise(np.unique(ends)):
            inside = errors[finite & (column >= low) & (column <= high), q]
            if len(inside) < ROWS_OF_A_BIN:
                continue
            mean, error = inside.mean(), inside.std(ddof=1) / np.sqrt(len(inside))
            if abs(mean) > most * error:
                what = f"{data.inputs[i]} from {number(low)} to {number(high)}"
                of = f" of {kan.outputs[q].name}" if len(kan.outputs) > 1 else ""
                side = "above" if mean > 0 else "below"
                line = f"{what}: answers{of} are {number(abs(mean))} ± {error:.1g} {side} the predictions"
                found.append((-abs(mean) / max(error, 1e-300), line))
    yield "<h3>Where predictions are off</h3>"
    yield from (text(line) for _, line in sorted(found)[:MOST_MISSES])
    if not found:
        yield text(
            "In no tenth of an input are answers further from the predictions, on average, than chance explains."
        )


def _effects(kan: Kan, data: Dataset) -> Iterator[str]:
    """The effects of inputs and pairs on each output."""
    shapes, importances = Shapes(kan, data), input_importances(kan, data.x, data.weights)
    order = [int(i) for i in np.argsort(-importances, kind="stable")[:INPUTS] if importances[i] > 0]
    yield "<h2>Effects of the inputs</h2>"
    used = int((importances > 0).sum())
    rest = f" The {len(order)} most important of {used} inputs are shown." if used > len(order) else ""
    between = (
        f"The strong band is between the lowest and the highest of the {len(shapes.members)} networks whose mean this "
        "is, fitted to the same table from other starts: with another table they would lie further apart."
        if shapes.members
        else "There is no band of uncertainty: this is one network, not a mean of several."
    )
    yield text(
        "The mean prediction if every row had this value, minus the mean prediction. All panels have one scale. "
        f"{between} The faint band is what eight in ten rows have, where other inputs change the effect; bars are the "
        "answers near a value with one standard error, and the grey area is how many rows there are. Percentages: how "
        f"much predictions change when the input's values are shuffled.{rest}",
        second=True,
    )
    names = output_names(kan)
    for q, name in enumerate(names[:OUTPUTS]):
        if len(names) > 1 or kan.classes:
            yield f"<h3>{escape(name)}</h3>"
        panels = [shapes.of(i, q, float(importances[i])) for i in order]
        yield picture(shape_panels(panels, WIDTH))
        if apart := [float(np.ptp(panel.members, axis=0).max()) for panel in panels if panel.members is not None]:
            low, high = common_scale(panels)
            yield text(f"The networks lie at most {number(max(apart))} apart, on a scale of {number(high - low)}.")
        if pairs := shapes.pairs(importances, q, PAIRS, LEAST_PAIR):
            yield "<h3>Pairs of inputs</h3>"
            yield text(
                "What two inputs do together beyond what each does, as a share of the variance of predictions: blue "
                "raises, orange lowers.",
                second=True,
            )
            yield picture(pair_maps(pairs, WIDTH))
    if others := names[OUTPUTS:]:
        yield text(f"and {len(others)} more outputs", second=True)


def _single(kan: Kan, data: Dataset) -> Iterator[str]:
    """The contributions to three predictions of the first output: the lowest, the highest, and the most wrong one. With
    more than two classes, the least and the most certain one replace the first two."""
    outputs = evaluate(kan, data.x)
    low, high, first, wrong = "lowest", "highest", outputs[:, 0], np.abs(outputs - data.y)[:, 0]
    if kan.classes:
        chances = softmax(outputs)
        first, wrong = chances[:, -1], 1 - (chances * data.y).sum(axis=1)
        if len(kan.classes) != 2:
            low, high, first = "least certain", "most certain", chances.max(axis=1)
    picked = {
        f"{low} prediction": first.argmin(),
        f"{high} prediction": first.argmax(),
        "largest error": wrong.argmax(),
    }
    found = explain(kan, data.x[list(picked.values())], data)
    yield "<h2>Why single predictions are what they are</h2>"
    yield text(
        "How much each input contributes to a prediction, beside the mean prediction: Shapley values, which add up to "
        "it.",
        second=True,
    )
    for row, (what, place) in enumerate(picked.items()):
        answer = kan.classes[int(data.y[place].argmax())] if kan.classes else number(float(data.y[place, 0]))
        yield f"<h3>{escape(f'The {what}; the answer is {answer}')}</h3>"
        q = int(found.predictions[row].argmax()) if kan.classes else 0
        yield picture(contribution_bars(found.outputs[q], float(found.base[q]), bars(found, row, q), WIDTH))
