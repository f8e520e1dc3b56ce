"""Layers of splines for torch: `KANLayer`, `KAN`, and `kan_of`, which turns trained ones into a `kanserve.Kan`. They
train in any torch loop, with the kernels that `kanserve.fit` uses."""

from kanserve.train.torch.spline_layer import KANLayer as KANLayer
from kanserve.train.torch.spline_network import KAN as KAN
from kanserve.train.torch.spline_network import kan_of as kan_of

__all__ = ["KAN", "KANLayer", "kan_of"]
