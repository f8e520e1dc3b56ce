"""The choice of the hidden nodes for hidden="auto": the fewest that predict unseen rows not clearly worse than the best
number. Each number is tried by short fits on three thirds of the rows in turn, or on a part of many rows. The
predictions also say whether y is noisy, in which case several networks are averaged, and by how much a classifier is
too confident: its scores are moved towards the class frequencies by as much. Before that, skewed inputs are taken on a
logarithmic scale if that predicts unseen rows better."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import mean_difference
from kanserve.estimator.parameters import Hidden, layers_of
from kanserve.estimator.sample_weights import distinct
from kanserve.estimator.skewed_inputs import log_scales
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.train import create, fit
from kanserve.train.constant_guard import errors_of_constant, errors_of_outputs, scores_of_shares
from kanserve.train.encoded_data import is_encoded
from kanserve.train.encoding_search import in_numbers
from kanserve.train.fit_arguments import choose_loss, hold_out
from kanserve.train.fit_warnings import TrainingWarning
from kanserve.train.input_screening import narrow_data
from kanserve.train.lm.telling_inputs import telling_inputs
from kanserve.train.normalising import normalise
from kanserve.train.outer_layers import with_arcsinh_inputs
from kanserve.train.scoring import cross_entropies
from kanserve.train.stages import with_log_scales
from kanserve.train.target_means import check_inputs, first_encoding

Array = NDArray[np.float64]
Widths = tuple[int, ...]
Fold = tuple[Dataset, Dataset]
"""Training rows, and rows to judge by."""


# Hidden nodes that hidden="auto" tries: with fewer rows than MANY_ROWS, and with more, whose interactions can be
# learnt: of 30 inputs 10 nodes are fitted by LBFGS, in less time than 5 by Levenberg-Marquardt.
NODES: tuple[Widths, ...] = ((), (2,), (5,))
NODES_OF_MANY: tuple[Widths, ...] = ((), (10,))
MANY_ROWS = 10_000
# Of a classifier: scores of many rows or classes are learnt by many nodes, those of few by the mean of narrow networks.
NODES_OF_CLASSES: tuple[Widths, ...] = ((), (2,), (8,))
WIDE = (32,)
NODES_OF_MANY_CLASSES: tuple[Widths, ...] = ((), (2,), WIDE)
NODES_OF_FORMULAS = (5,)  # of a classifier: each score becomes a formula
# Up to so many all rows are predicted, each by networks that have not seen it; of more, one half or SAMPLE_ROWS.
FEW_ROWS = 1000
SAMPLE_ROWS = 5000  # enough to show interactions that MANY_ROWS can learn
FOLDS = 3
CLEAR = 4.0  # standard errors from which on a number is too far behind the best to be tried on a further fold
CLEAR_ROWS = 200  # unseen rows that this takes, at least
MOST_INPUTS = 30  # with more inputs one fold and one network are enough: a fit takes long
GRID = (3, 5)
GRID_OF_CLASSES = (3,)  # the default of a classifier
STARTS = 2
STEPS = 20
LOGARITHMS = 1.0
"""Standard errors by which logarithms of skewed inputs must predict unseen rows better. Additive networks decide, whose
fits take .1 to 1 s (docs/project/ablation.md): the log-likelihood of breast cancer +.006 ± .002, spam7 +.004 ± .002,
credit +.004 ± .003, R² of a law in logarithms +.031 ± .007."""
SHARE = 0.5  # of a standard error, by which fewer nodes may be worse
NETWORKS = 5  # of which the mean is taken: of fewer than MANY_ROWS with noise, and up to MOST_INPUTS
STARTS_OF_MEAN = 3  # of each of these: 8, as of one network, gain nothing more on tables, in 1.4 times the seconds
NETWORKS_OF_CLASSES = 4  # of which the mean is taken, with up to 8 nodes
STARTS_OF_CLASSES = 4  # of each of these, where one network alone has 24
SHARES = np.linspace(0.05, 1, 20)  # of a classifier's scores; finer steps change no third digit of a loss
NOISE = 0.01  # of a constant's loss on unseen rows: with less, one network is enough

DEFAULTS = {"loss": "auto", "quantile": 0.5, "power": 1.5, "optimizer": "auto", "screen": True, "monotonic_cst": None}
"""Of the options of `fit` that the choice reads."""


class Plan(NamedTuple):
    """What to fit: the hidden nodes, and the number of networks to average."""

    hidden: Hidden
    networks: int = 1
    starts: int | None = None
    """Random starts of each network, None for those of `fit`."""
    share: float = 1.0
    """Of a classifier's scores; the rest is from the class frequencies (`shrunk_to_the_shares`)."""
    log_scales: tuple[float, ...] = ()
    """Of each input that is taken on a logarithmic scale, 0 of others; () of none (`skewed_inputs`)."""

    def structure(self, inputs: int, outputs: int, grid: int, order: int, seed: int) -> Kan:
        """The untrained network for this plan."""
        kan = create([inputs, *layers_of(self.hidden), outputs], grid=grid, order=order, seed=seed)
        return with_arcsinh_inputs(kan, self.log_scales) if self.log_scales else kan


def automatic_plan(data: Dataset, order: int, options: Mapping[str, Any], seed: int, *, formulas: bool = False) -> Plan:
    """What hidden="auto" means, for estimators and `kanserve fit`. `options` are arguments of `fit`. With `formulas`, a
    classifier gets few nodes, since its scores become formulas."""
    if data.classes and formulas:
        return Plan(NODES_OF_FORMULAS)
    x, y, weights = distinct(data.x, data.y, data.weights)  # so that the order of the rows does not matter
    return choose_plan(replace(data, x=x, y=y, weights=weights), order, options, seed)


def choose_plan(data: Dataset, order: int, options: Mapping[str, Any], seed: int) -> Plan:
    """Choose the hidden widths and the ensemble size by cross-validation on these samples."""
    options = {**DEFAULTS, **options}
    candidates = _candidates(data, options["monotonic_cst"] is not None)
    names, scales = data.inputs, log_scales(data)
    if is_encoded(data):
        check_inputs(data)
        data = in_numbers(data, first_encoding(data, np.asarray(np.isnan(data.x).any(axis=0)), ranks=True))
    given = {**options, "grid": GRID_OF_CLASSES if data.classes else GRID, "steps": STEPS, "starts": None}
    inputs, optimizer = data.x.shape[1], options["optimizer"]
    if candidates is NODES_OF_MANY and options["screen"] and options["monotonic_cst"] is None:
        data = _narrow(data, options, seed)
        if data.x.shape[1] < inputs and optimizer == "auto":
            optimizer = "lbfgs"  # as of a network of all inputs
    folds = _folds(data, seed)
    kept = tuple(scale for name, scale in zip(names, scales, strict=False) if name in data.inputs)

    def ask(nodes: Widths, fold: Fold) -> Unseen:
        own = {**given, "optimizer": optimizer, "starts": STARTS} if nodes else given
        return _unseen(data, *fold, nodes, order, own, seed)

    logs, additive = _with_logarithms(folds, kept, ask)
    folds, taken = (logs, scales) if logs else (folds, ())
    left = {nodes: Unseen(data.y[:0], np.empty(0)) for nodes in candidates}
    folds, left = _left_after(folds, left, additive, ask)
    chosen = _simplest(left)
    plan, unseen = Plan(chosen, log_scales=taken), left[chosen]
    if data.classes:
        plan = plan._replace(share=_telling_share(data, [judges for _, judges in folds], unseen.outputs))
    if len(data) >= MANY_ROWS or inputs > MOST_INPUTS or not len(unseen.losses):
        return plan
    noisy = float(unseen.losses.mean()) > NOISE * float(_of_constants(data, folds, options).mean())
    return _mean_of(plan, data) if noisy else plan


def _left_after(
    folds: list[Fold], left: dict[Widths, "Unseen"], additive: "list[Unseen]", ask: "Callable[[Widths, Fold], Unseen]"
) -> tuple[list[Fold], dict[Widths, "Unseen"]]:
    """Compare numbers of nodes fold by fold, dropping those that fall behind. Returns the folds used, and the numbers
    left with their predictions. Predictions of additive networks may be passed in."""
    for count, fold in enumerate(folds, start=1):
        for nodes, before in left.items():
            known = additive and not nodes
            left[nodes] = _joined([before, additive[count - 1] if known else ask(nodes, fold)])
        left = _not_far_behind(left)
        if len(left) == 1:
            return folds[:count], left
    return folds, left


def _mean_of(plan: Plan, data: Dataset) -> Plan:
    """Change the plan to average several networks, for noisy targets."""
    if not data.classes:
        return plan._replace(networks=NETWORKS, starts=STARTS_OF_MEAN if plan.hidden else None)
    if plan.hidden == WIDE:
        return plan
    starts = None if plan.hidden in ((), NODES_OF_CLASSES[-1]) else STARTS_OF_CLASSES
    return plan._replace(networks=NETWORKS_OF_CLASSES, starts=starts)


def _with_logarithms(
    folds: list[Fold], scales: tuple[float, ...], ask: "Callable[[Widths, Fold], Unseen]"
) -> tuple[list[Fold], "list[Unseen]"]:
    """The folds with logarithms of the inputs if additive networks then predict better, else none; and the predictions,
    if computed."""
    if not any(scales) or not folds:
        return [], []
    logs = [(with_log_scales(train, scales), with_log_scales(judges, scales)) for train, judges in folds]
    plain, changed = ([ask((), fold) for fold in every] for every in (folds, logs))
    if _is_worse(_joined(plain).losses, _joined(changed).losses, LOGARITHMS):
        return logs, changed
    return [], plain


def _candidates(data: Dataset, monotone: bool) -> tuple[Widths, ...]:
    """The numbers of hidden nodes to try, fewest first."""
    if monotone or not data.classes:
        return NODES_OF_MANY if len(data) >= MANY_ROWS else NODES
    narrow = len(data) < FEW_ROWS and len(data.classes) <= sum(NODES_OF_CLASSES[-1])
    return NODES_OF_CLASSES if narrow else NODES_OF_MANY_CLASSES


def _telling_share(data: Dataset, judges: Sequence[Dataset], outputs: Array) -> float:
    """The value of `Plan.share` with the lowest loss on unseen rows."""
    if not np.isfinite(outputs).all() or len(outputs) == 0:
        return 1.0
    plain = scores_of_shares(data)
    y = np.concatenate([rows.y for rows in judges])
    weights = np.concatenate([rows.shares * len(rows) for rows in judges])
    losses = [float(weights @ cross_entropies(plain + share * (outputs - plain), y)) for share in SHARES]
    return float(SHARES[int(np.argmin(losses))])


def _narrow(data: Dataset, options: Mapping[str, Any], seed: int) -> Dataset:
    """Restrict the samples to the inputs that explain something about the targets of a sample."""
    rows = data.sample(2 * SAMPLE_ROWS, seed)
    of = choose_loss(options["loss"], options["quantile"], options["power"], data)
    template = normalise(create([data.x.shape[1], data.y.shape[1]]), rows, of)
    return narrow_data(data, telling_inputs(template, rows, of, seed))


def _folds(data: Dataset, seed: int) -> list[Fold]:
    """The pairs of training and validation rows on which numbers of nodes are compared."""
    if len(data) > 2 * SAMPLE_ROWS:
        data = data.sample(2 * SAMPLE_ROWS, seed)
    count = FOLDS if len(data) <= FEW_ROWS and data.x.shape[1] <= MOST_INPUTS else 1
    left = np.arange(len(data))
    folds: list[Fold] = []
    for fold in range(count):
        part = 0.5 if len(data) > FEW_ROWS else 1 / (FOLDS - fold)
        out = None if part == 1 else hold_out(data.take(left), part, len(left), seed)[0]
        if out is None:  # all that are left, or too few rows
            out = np.arange(len(left) if folds else 0)
        if len(out) == 0:
            break
        folds.append((data.without(left[out]), data.take(left[out])))
        left = np.delete(left, out)
    return folds


@dataclass(frozen=True, eq=False)
class Unseen:
    """The outputs (N, Q) of networks on unseen rows, and the losses (N,)."""

    outputs: Array
    losses: Array


def _joined(parts: Sequence[Unseen]) -> Unseen:
    """Concatenate the rows of all parts."""
    return Unseen(np.concatenate([part.outputs for part in parts]), np.concatenate([part.losses for part in parts]))


def _unseen(
    data: Dataset, train: Dataset, judges: Dataset, nodes: Widths, order: int, options: Mapping[str, Any], seed: int
) -> Unseen:
    """Fit a network with these hidden nodes to `train`, and predict the unseen rows `judges`."""
    of = choose_loss(options["loss"], options["quantile"], options["power"], data)
    begin = create([data.x.shape[1], *nodes, data.y.shape[1]], grid=GRID[0], order=order, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        kan: Kan = fit(begin, train, seed=seed, **options)
    with np.errstate(all="ignore"):
        outputs = evaluate(kan, judges.x)
    return Unseen(outputs, errors_of_outputs(kan, outputs, judges, of) * len(judges) * judges.shares)


def _of_constants(data: Dataset, folds: Sequence[Fold], options: Mapping[str, Any]) -> Array:
    """The loss of each row if a constant were predicted."""
    of = choose_loss(options["loss"], options["quantile"], options["power"], data)
    shape = [data.x.shape[1], data.y.shape[1]]
    found = []
    for train, judges in folds:
        plain = normalise(create(shape), train, of)
        found.append(errors_of_constant(plain, train, judges, of) * len(judges) * judges.shares)
    return np.concatenate(found)


def _not_far_behind(found: Mapping[Widths, Unseen]) -> dict[Widths, Unseen]:
    """The numbers of nodes that further folds could still choose."""
    best = found[_best(found)].losses
    if len(best) < CLEAR_ROWS or not np.isfinite(best).all():
        return {**found}
    return {nodes: scores for nodes, scores in found.items() if not _is_worse(scores.losses, best, CLEAR)}


def _best(found: Mapping[Widths, Unseen]) -> Widths:
    """The number of nodes with the lowest mean loss."""

    def loss(nodes: Widths) -> float:
        losses = found[nodes].losses
        return float(np.where(np.isfinite(losses), losses, np.inf).mean())

    return min(found, key=loss)


def _is_worse(losses: Array, best: Array, times: float) -> bool:
    """Whether losses are not finite, or exceed the best by more than `times` standard errors of the mean difference."""
    if not np.isfinite(losses).all():
        return True
    worse, error = mean_difference(losses, best)
    return worse > times * error


def _simplest(found: Mapping[Widths, Unseen]) -> Widths:
    """The simplest candidate whose losses are not clearly worse, row by row, than the best."""
    first, *_ = found
    if len(found[first].losses) == 0:
        return first
    best = found[_best(found)].losses
    return next((nodes for nodes, scores in found.items() if not _is_worse(scores.losses, best, SHARE)), first)
