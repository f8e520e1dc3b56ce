"""The input of a fit as data: the network's structure, the samples, the loss, and the user's options."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kanserve.data.dataset import Dataset, Target, TrainingData, dataset
from kanserve.errors import DataError
from kanserve.network.encoding import without_encoding
from kanserve.network.kan import Kan
from kanserve.train.argument_checks import grid_sequence
from kanserve.train.creation import create
from kanserve.train.encoded_data import with_categories
from kanserve.train.fit_arguments import (
    Extrapolation,
    Loss,
    Monotonic,
    Optimizer,
    Places,
    check_arguments,
    choose_loss,
    monotonic_signs,
    output_count,
    validation_rows,
)
from kanserve.train.fit_progress import FitReport, Watch
from kanserve.train.fit_settings import Settings
from kanserve.train.losses import LossFunction
from kanserve.train.outer_layers import (
    arcsinh_scales,
    with_arcsinh_inputs,
    without_arcsinh_inputs,
    without_clipped_inputs,
    without_exponential,
)

GRIDS, FINER = (3, 5, 10), (20, 50, 100)  # of grid="auto": always, and where the residuals ask for them


@dataclass(frozen=True)
class FitOptions:
    """The options of `fit`, which documents each of them."""

    target: Target
    loss: Loss
    quantile: float
    power: float
    extrapolation: Extrapolation
    monotonic_cst: Monotonic
    optimizer: Optimizer
    grid: int | Sequence[int] | Literal["auto"]
    starts: int | None
    steps: int | None
    smooth: float | Literal["auto"]
    noise_free: bool
    screen: bool
    l1: float
    entropy: float
    validation: float | TrainingData
    learning_rate: float | None
    patience: int | None
    batch: int | None
    seed: int
    progress: bool | FitReport
    device: str
    checkpoint: str | os.PathLike[str] | None

    @property
    def penalised(self) -> bool:
        """Whether edges are penalised by size, which makes the loss not smooth."""
        return self.l1 != 0 or self.entropy != 0

    @property
    def grids(self) -> Sequence[int]:
        """The numbers of intervals, from coarse to fine."""
        return GRIDS if self.grid == "auto" else grid_sequence(self.grid)

    @property
    def finer(self) -> tuple[int, ...]:
        """Grids to continue with if the residuals call for them."""
        return FINER if self.grid == "auto" else ()


@dataclass
class Outcome:
    """What a fit produces besides its network: progress while it runs, and warnings at its end."""

    watch: Watch
    checkpoint: str | os.PathLike[str] | None = None
    judged: Kan | None = None
    """The network that has not seen the held-out rows; None after an interrupt, or if the result was on file."""
    warnings: list[str] = field(default_factory=list)

    @staticmethod
    def of(options: FitOptions, *, resumes: bool = True) -> "Outcome":
        """An empty outcome; with `resumes` False, no checkpoint is read or written."""
        report = options.progress if callable(options.progress) else None
        return Outcome(Watch(options.progress is True, report), options.checkpoint if resumes else None)


@dataclass(frozen=True, eq=False)
class Plan:
    """What was decided for a fit: its settings and its rows."""

    settings: Settings
    out: Places | None
    """The places of the rows that are held out; None if there are none, or others judge."""
    held: Dataset | None
    """The rows that judge."""
    few: bool
    """Whether no rows judge because there are too few."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A fit. Each stage passes a modified one to the next stage, and changes the network that comes back."""

    kan: Kan
    """Its structure is trained."""
    data: Dataset
    validation: float | Dataset
    loss: LossFunction
    monotonic: tuple[int, ...]
    """The sign of each input; () without any."""
    options: FitOptions
    outcome: Outcome
    structure: Kan
    """The network as it was given, by which a checkpoint knows its fit."""
    scales: tuple[float, ...] = ()
    """Of each input that the network takes on a logarithmic scale (`with_arcsinh_inputs`); () of none."""
    raw: Dataset | None = None
    """The samples before these inputs were changed, if they were."""
    sizing: Kan | None = None
    """The network of all inputs, by whose size the optimizer is chosen, if many rows decide which inputs are kept."""
    screened: bool = False
    """Whether inputs are left out."""
    plan: Plan | None = None

    @staticmethod
    def of(shape: Kan | Sequence[int | tuple[int, int]], samples: Any, options: FitOptions) -> "Problem":
        """Check the arguments, and set up the problem. Raises DataError or TrainingError if it cannot be fitted."""
        kan, scales = shape, tuple[float, ...]()
        if isinstance(kan, Kan):
            scales, kan = arcsinh_scales(kan), without_clipped_inputs(without_arcsinh_inputs(kan))
            kan = without_exponential(kan) if options.loss in ("poisson", "tweedie") else kan
        classes, outputs = (kan.classes, kan.shape[-1]) if isinstance(kan, Kan) else ((), output_count(kan))
        known = {each.name: each.categories for each in kan.inputs if each.categories} if isinstance(kan, Kan) else {}
        labels = options.loss == "cross_entropy"
        data = dataset(
            samples, options.target, classes=classes, outputs=outputs, labels=labels, tables=True, known=known
        ).counted()
        if isinstance(kan, Kan):
            kan, data = without_encoding(kan), with_categories(data, kan)
        grids = options.grids
        if len(data) < 2:
            raise DataError("A fit needs at least 2 rows, got 1.")
        validation = validation_rows(options.validation, options.target, data)
        names = options.loss, options.optimizer, options.extrapolation
        check_arguments(options.seed, grids, validation, options.smooth, names, data)
        loss = choose_loss(options.loss, options.quantile, options.power, data)
        signs = monotonic_signs(options.monotonic_cst, data)
        if not isinstance(kan, Kan):
            kan = create(kan, grid=grids[0], seed=options.seed)
        structure = with_arcsinh_inputs(kan, scales) if scales else kan
        outcome = Outcome.of(options)
        return Problem(kan, data, validation, loss, signs, options, outcome, structure=structure, scales=scales)
