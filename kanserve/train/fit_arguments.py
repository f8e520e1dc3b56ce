"""The arguments of a fit: check them, and decide what "auto" means."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset, Target, TrainingData, dataset, past, some
from kanserve.data.frames import as_table, is_frame
from kanserve.errors import DataError, TrainingError
from kanserve.network.kan import Kan
from kanserve.train.argument_checks import increasing, is_number, not_negative, whole
from kanserve.train.encoded_data import recode
from kanserve.train.fit_settings import Method
from kanserve.train.lm import schedule
from kanserve.train.lm.parameter_vector import parameters
from kanserve.train.lm.schedule_run import is_narrow
from kanserve.train.losses import LossFunction, LossName, loss_function

Loss = Literal["auto", "squared", "huber", "quantile", "poisson", "tweedie", "cross_entropy"]
Optimizer = Literal["auto", "lm", "lbfgs", "adam"]
Extrapolation = Literal["linear", "clip"]
Places = NDArray[np.int64]

JUDGED_BY = {"lm": 5_000, "lbfgs": 20_000, "adam": 20_000}  # held-out rows at most
FITTING_FEWEST_ROWS = 10  # with fewer, no rows are held out
# Different rows from which on equal ones are held out together: with fewer, all kinds of rows are in training.
FITTING_FEWEST_GROUPS = 100
FITTING_FEW_ROWS_SMOOTH = 1e-2  # smoothing where no rows are held out to choose it
FITTING_CLASSES_SMOOTH = 5e-3  # of a classifier's splines: better than 0, and than a choice by 20 held-out rows
# Up to so many a classifier is fitted by Levenberg-Marquardt: narrow ones have poor minima, where LBFGS ends.
FITTING_CLASSES_PARAMETERS = 400
FITTING_STARTS = 8  # of Levenberg-Marquardt for a regression
# Of Levenberg-Marquardt for a classifier: about one in five of a narrow one finds a good minimum.
FITTING_CLASS_STARTS = 24
FITTING_DESCENT_STARTS = 4  # of LBFGS and Adam for a network with a narrow layer
FITTING_MANY_ROWS = 50_000  # from here on Adam: LBFGS would take all rows at every step


def check_order(shape: object, data: object) -> None:
    """Raise TrainingError if the data come before the shape."""
    if not _is_shape(shape) and (_is_shape(data) or isinstance(shape, Dataset) or is_frame(shape)):
        raise TrainingError("The shape comes first, then the data: fit([2, 5, 1], data).")


def _is_shape(value: object) -> bool:
    if isinstance(value, Kan):
        return True
    whole_numbers = int | np.integer
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(isinstance(part, whole_numbers | tuple) for part in value)
        and all(isinstance(part, whole_numbers) for pair in value if isinstance(pair, tuple) for part in pair)
    )


def samples(data: object, y: object) -> object:
    """Combine the arguments `data` and `y`: a pair if `y` is given, else `data`."""
    if y is None:
        return data
    if isinstance(data, Dataset | tuple):
        raise DataError("y is for fit(shape, x, y); these data have their targets already: leave out y.")
    return data, y


def output_count(shape: Sequence[int | tuple[int, int]]) -> int | None:
    """The number of outputs of a network of this shape; None if the shape is not valid."""
    last = shape[-1] if hasattr(shape, "__len__") and len(shape) else None
    return int(last) if isinstance(last, int | np.integer) else None


def smoothing_strengths(
    smooth: float | Literal["auto"], few: bool, exact: bool, choosing: bool, loss: LossName
) -> tuple[float, ...]:
    """The smoothing strengths to try. If there are several, the held-out rows decide."""
    if smooth != "auto":
        return (float(smooth),)
    if few:
        return (FITTING_FEW_ROWS_SMOOTH,)
    if exact:
        return (0.0,)
    if loss == "cross_entropy":
        return schedule.CLASS_STRENGTHS if choosing else (FITTING_CLASSES_SMOOTH,)
    return schedule.STRENGTHS if choosing else (0.0,)


def validation_rows(given: float | TrainingData, target: Target, data: Dataset) -> float | Dataset:
    """The share to hold out, or the user's validation rows as a Dataset."""
    given = as_table(given)
    if not isinstance(given, Dataset | tuple) and not is_frame(given):
        return cast(float, given)  # `_check` refuses what is not a share
    outputs = len(data.classes) or data.y.shape[1]
    rows = dataset(
        given,
        target if is_frame(given) else None,
        classes=data.classes,
        outputs=outputs,
        labels=bool(data.classes),
        tables=True,
    )
    return recode(rows, data.categories) if rows.inputs == data.inputs else rows


def hold_out(data: Dataset, validation: float | Dataset, most: int, seed: int) -> tuple[Places | None, Dataset | None]:
    """Choose the rows to hold out. Returns their indices (None: none) and the validation rows."""
    if isinstance(validation, Dataset):
        return None, validation.counted()
    count = min(round(validation * len(data)), most)
    if len(data) < FITTING_FEWEST_ROWS or count == 0:
        return None, None
    if len(data) - count < 2:
        raise TrainingError(
            f"validation={validation} holds out {count} of {len(data)} rows; leave at least 2 to train on."
        )
    out = _with_repeats(data, count, seed)
    return out, data.take(out)


def training_rows(data: Dataset, out: Places | None, most: int, seed: int) -> Dataset:
    """At most `most` of the rows that are not held out."""
    if out is None:
        return data.sample(most, seed)
    left = len(data) - len(out)
    return data.take(past(out, some(left, min(left, most), seed)))


def _with_repeats(data: Dataset, count: int, seed: int) -> Places:
    """The indices of about `count` random rows. If most rows have equal inputs, rows with equal inputs stay together,
    since the error would otherwise show memorisation."""
    if len(data) > FITTING_MANY_ROWS:
        return some(len(data), count, seed)
    of_values, of_missing = np.random.default_rng(seed).normal(size=(2, data.x.shape[1]))
    marks = (np.nan_to_num(data.x) * of_values + np.isnan(data.x) * of_missing).sum(axis=1)
    _, groups = np.unique(marks, return_inverse=True)
    sizes = np.bincount(groups)
    if len(sizes) < FITTING_FEWEST_GROUPS or 2 * len(sizes) > len(data):
        return some(len(data), count, seed)
    order = np.random.default_rng(seed).permutation(len(sizes))
    chosen = order[: max(1, int(np.searchsorted(np.cumsum(sizes[order]), count)))]
    return np.flatnonzero(np.isin(groups, chosen))


def choose_loss(loss: Loss, quantile: float, power: float, data: Dataset) -> LossFunction:
    """The loss, with "auto" decided. Raises TrainingError or DataError if it does not suit arguments or data."""
    if not (is_number(quantile) and 0 < quantile < 1):
        raise TrainingError(f"quantile is a number between 0 and 1, got {quantile!r}.")
    if not (is_number(power) and 1 < power <= 2):
        raise TrainingError(
            f"power is a number above 1 and up to 2, got {power!r}. For power 1 use loss='poisson', for 0 'squared'."
        )
    if loss not in ("auto", "squared", "cross_entropy") and data.classes:
        raise TrainingError(
            f"loss={loss!r} is for numbers to predict; data with classes take cross_entropy or squared."
        )
    if loss == "cross_entropy" and not data.classes:
        raise TrainingError(
            "Cross-entropy needs class labels: one column of integers or text as y, or a Dataset with classes."
        )
    name: LossName = ("cross_entropy" if data.classes else "squared") if loss == "auto" else loss
    found = loss_function(name, quantile, power)
    found.check(data)
    return found


def choose_method(
    optimizer: Optimizer, loss: str, penalised: bool, few_rows: bool, kan: Kan, monotonic: Sequence[int]
) -> Method:
    """The optimizer, with "auto" decided."""
    if optimizer == "lm" and penalised:
        raise TrainingError(
            "Levenberg-Marquardt takes no l1 or entropy penalty, which are not smooth. Choose lbfgs or adam."
        )
    if any(monotonic):
        if optimizer in ("lbfgs", "adam") or penalised:
            raise TrainingError(
                "monotonic_cst is kept by Levenberg-Marquardt alone. Leave out optimizer, l1 and entropy."
            )
        return "lm"
    if optimizer != "auto":
        return optimizer
    most = FITTING_CLASSES_PARAMETERS if loss == "cross_entropy" else schedule.MOST_PARAMETERS
    if not penalised and parameters(kan) <= most and (few_rows or loss != "cross_entropy"):
        return "lm"
    return "lbfgs" if few_rows and not penalised else "adam"


def list_unused_arguments(
    method: Method, device: str, learning_rate: float | None, batch: int | None
) -> tuple[str, ...]:
    """Warnings about arguments that Levenberg-Marquardt ignores."""
    given = {"device": device if device != "cpu" else None, "learning_rate": learning_rate, "batch": batch}
    names = [f"{name}={value!r}" for name, value in given.items() if value is not None]
    if method != "lm" or not names:
        return ()
    return (
        f"Not used: {', '.join(names)}. This fit is by Levenberg-Marquardt, on the processor and with all rows at each "
        "step. Pass optimizer='adam', or 'lbfgs', which uses device and learning_rate.",
    )


def start_count(method: str, loss: str, penalised: bool, kan: Kan) -> int:
    """The default number of random starts. Without hidden nodes one is enough, since there is only one optimum."""
    if len(kan.layers) == 1 and not penalised and (kan.layers[0].arity == 1).all():
        return 1
    if method == "lm":
        return FITTING_CLASS_STARTS if loss == "cross_entropy" else FITTING_STARTS
    return FITTING_DESCENT_STARTS if is_narrow(kan) and not penalised else 1


Monotonic = Mapping[str, int] | Sequence[int] | None


def monotonic_signs(given: Monotonic, data: Dataset) -> tuple[int, ...]:
    """The sign of each input, or () if none is monotonic. Raises TrainingError if that is invalid or impossible."""
    if given is None:
        return ()
    names, signs = data.inputs, _signs(given, data.inputs)
    if not any(signs):
        return ()
    if categorical := [name for name, sign in zip(names, signs, strict=True) if sign and name in data.categories]:
        raise TrainingError(f"Input {categorical[0]!r} has categories, which have no order: it cannot be monotone.")
    if len(data.classes) > 2:
        raise TrainingError(f"monotonic_cst is for numbers and for 2 classes; these data have {len(data.classes)}.")
    return signs


def _signs(given: Mapping[str, int] | Sequence[int], names: Sequence[str]) -> tuple[int, ...]:
    if isinstance(given, Mapping):
        if unknown := [name for name in given if name not in names]:
            raise TrainingError(f"monotonic_cst names {unknown[0]!r}, not an input. Inputs: {', '.join(names)}.")
        given = [given.get(name, 0) for name in names]
    if len(given) != len(names):
        raise TrainingError(f"monotonic_cst has {len(given)} numbers for {len(names)} inputs.")
    if wrong := [sign for sign in given if sign not in (-1, 0, 1)]:
        raise TrainingError(f"monotonic_cst is 1, 0 or -1 for each input, got {wrong[0]!r}.")
    return tuple(int(sign) for sign in given)


def check_arguments(
    seed: int,
    grids: Sequence[int],
    validation: float | Dataset,
    smooth: float | str,
    names: tuple[Loss, Optimizer, Extrapolation],
    data: Dataset,
) -> None:
    """Check the arguments that `Settings` does not check."""
    known_names = (get_args(Loss), get_args(Optimizer), get_args(Extrapolation))
    for name, value, known in zip(("loss", "optimizer", "extrapolation"), names, known_names, strict=True):
        if value not in known:
            raise TrainingError(f"{name} is one of {', '.join(known)}; got {value!r}.")
    if not increasing(grids):
        raise TrainingError(
            f"grid is a number of intervals, or increasing numbers of intervals, like (3, 5); got {grids!r}."
        )
    if not whole(seed, 0):
        raise TrainingError(f"A seed is a whole number from 0 on, got {seed!r}.")
    if isinstance(validation, Dataset):
        if validation.x.shape[1] != data.x.shape[1] or validation.y.shape[1] != data.y.shape[1]:
            raise DataError("The validation data need the same columns as the training data.")
        if validation.classes != data.classes:
            found, wanted = (", ".join(dataset.classes) or "none" for dataset in (validation, data))
            raise DataError(f"The validation data need the classes of the training data, {wanted}; got {found}.")
    elif not (not_negative(validation) and validation < 1):
        raise TrainingError(
            "validation is the share of rows to hold out, from 0 to less than 1, or a Dataset of other rows; "
            f"got {validation!r:.60}."
        )
    if smooth != "auto" and not not_negative(smooth):
        raise TrainingError(f'smooth is "auto" or a number of 0 or more, got {smooth!r}.')
