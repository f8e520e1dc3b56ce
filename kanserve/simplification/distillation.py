"""One narrow network in place of a mean of networks: knowledge distillation (Hinton et al., arXiv:1503.02531).

A mean of networks is as wide as all together, a thousand edges for thirty inputs, which no pruning makes readable. Its
outputs have no noise, so one network learns from them what five learnt from the answers.
"""

import warnings
from dataclasses import replace
from typing import Literal

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.simplification.activations import answers
from kanserve.simplification.validation import LARGEST_LOSS_INCREASE, judge_of
from kanserve.train import create, fit
from kanserve.train.fit_warnings import TrainingWarning
from kanserve.train.outer_layers import arcsinh_scales, with_arcsinh_inputs

HIDDEN_NODES: tuple[tuple[int, ...], ...] = ((), (2,), (5,))  # as hidden="auto" tries them
# Of the variance of an output, or in nats: a loss that is allowed although chance does not explain it, if it is at most
# a fifth more, too. The mean has seen the held-out rows, so its own loss there is too low.
ALLOWED_INCREASE = 0.01


def distil(kan: Kan, data: Dataset, tolerance: float | Literal["auto"], seed: int) -> Kan:
    """The narrowest network that predicts held-out rows no worse than a mean of networks; else, or of one, itself."""
    if not kan.members:
        return kan
    judge = judge_of(kan, data, tolerance, seed)
    taught = Dataset(judge.learn.x, answers(kan, judge.learn.x), weights=judge.learn.weights)
    best, scales = judge.losses(kan), arcsinh_scales(kan)
    most = best.mean() + min(ALLOWED_INCREASE, LARGEST_LOSS_INCREASE * best.mean())
    for nodes in HIDDEN_NODES:
        begin = create([len(kan.inputs), *nodes, len(kan.outputs)], seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)  # the mean has its own
            learnt = fit(with_arcsinh_inputs(begin, scales) if scales else begin, taught, seed=seed)
        narrow = replace(learnt, inputs=kan.inputs, outputs=kan.outputs, classes=kan.classes)
        losses = judge.losses(narrow)
        if judge.accepts(losses, best) or losses.mean() <= most:
            return narrow
    return kan
