"""Sparsity penalties, from the values of the edges on the given rows (arXiv:2404.19756, 2.17-2.20).

    |φ|₁ = 1/N·Σ_rows |φ(x)|        the size of an edge (2.17), rows counting by their weights
    |Φ|₁ = Σ_j Σ_i |φ_ji|₁          the size of a layer (2.18)
    S(Φ) = -Σ_j Σ_i p·log p         the entropy of its edges (2.19), p = |φ_ji|₁ / |Φ|₁

The objective is the loss + l1·Σ_layers |Φ|₁ + entropy·Σ_layers S(Φ) (2.20, with l1 = λμ₁ and entropy = λμ₂). The first
penalty makes edges small, the second unequal: few large ones instead of many small ones.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def sizes(edges: "Tensor", weights: "Tensor | None" = None) -> "Tensor":
    """|φ|₁ (O, I) of the edges of a layer, from their values (O, I, N) and weights (N,) of mean 1."""
    return (edges.abs() if weights is None else weights * edges.abs()).mean(dim=2)


def entropy(size: "Tensor") -> "Tensor":
    """S of edges with sizes (O, I), in nats: 0 for a single edge or none, log(O·I) for equal ones."""
    total = size.sum()
    # An edge of size 0 has p·log p = 0; the smallest normal number keeps the gradient of log finite.
    tiny = size.new_tensor(1e-300 if size.element_size() == 8 else 1e-30)
    share = size / total.maximum(tiny)
    return -(share * share.maximum(tiny).log()).sum()


def penalty(edges: Iterable["Tensor"], l1: float, entropies: float, weights: "Tensor | None" = None) -> "Tensor":
    """l1·Σ|Φ|₁ + entropies·ΣS(Φ) over the layers, from the values of their edges."""
    every = [sizes(edge, weights) for edge in edges]
    terms = [l1 * size.sum() + entropies * entropy(size) for size in every]
    return sum(terms[1:], terms[0])
