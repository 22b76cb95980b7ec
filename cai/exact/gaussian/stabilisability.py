"""Whether the part of a state that rewards depend on is stabilisable: if not, the infinite horizon has no finite value.

v depends on s through present and future rewards: on the complement of the unobservable subspace of (A, J). There
γ^t E |s_t|² must go to 0, so (√γ A, √γ B) must be stabilisable: actions must reach each mode with
``|√γ λ| >= 1`` (the test of Popov, Belevitch and Hautus; Anderson & Moore 1990, appendices B and C).
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

RANK = 64
"""A singular value below so many units in the last place, times the size of the matrix, counts as 0."""
EDGE = 1e-12
"""How far below 1 a growth may be and still count as growth."""


def observable_subspace(A: Float[Tensor, "n n"], J: Float[Tensor, "X n"]) -> Float[Tensor, "n k"]:
    """Return an orthonormal basis of what rewards depend on: the complement of ``{s: J Aᵗ s = 0 for all t}``.

    Args:
        A: the transition matrix of s without actions.
        J: a row for each linear function of s that the reward depends on.
    """
    basis, least = torch.eye(A.shape[-1]).to(A), RANK * torch.finfo(A.dtype).eps
    unseen = _kernel(J, basis, least * float(J.abs().max()))
    while unseen.shape[1]:
        leaves = A @ unseen - unseen @ (unseen.mT @ (A @ unseen))
        still = _kernel(leaves, unseen, least * max(1.0, float(A.abs().max())))
        if still.shape[1] == unseen.shape[1]:
            break
        unseen = still
    if not unseen.shape[1]:
        return basis
    whole: Tensor = torch.linalg.svd(unseen)[0]
    return whole[:, unseen.shape[1] :]


def _kernel(M: Tensor, basis: Tensor, least: float) -> Tensor:
    """Return those combinations of a basis that M takes to 0; M has a column for each vector of the basis."""
    sizes, rows = torch.linalg.svd(M)[1:]
    free: Tensor = rows[int((sizes > least * max(M.shape) ** 0.5).sum()) :]
    return basis @ free.mT


def unstabilisable_mode(
    A: Float[Tensor, "n n"], C: Float[Tensor, "n n"]
) -> tuple[complex, Complex[Tensor, " n"]] | None:
    """Return the eigenvalue and the direction w of an unstabilisable mode ``w's``; None where there is none.

    Args:
        A: times √γ.
        C: ``B R⁻¹ B'``, the directions that actions reach, times γ.
    """
    for value in torch.linalg.eigvals(A).tolist():
        if abs(value) < 1 - EDGE:
            continue
        one = torch.eye(len(A), dtype=torch.complex128, device=A.device)
        test = torch.cat((A.mT.to(one) - value * one, C.to(one) / max(float(C.abs().max()), 1e-300)))
        sizes, rows = torch.linalg.svd(test)[1:]
        if float(sizes[-1]) < 1e-9 * max(1.0, float(sizes[0])):
            return value, rows[-1].conj()
    return None


def spectral_radius(A: Float[Tensor, "n n"]) -> float:
    """Return the spectral radius."""
    return float(torch.linalg.eigvals(A).abs().max()) if len(A) else 0.0


def in_words(direction: Tensor, labels: tuple[str, ...]) -> str:
    """Return a direction as a sum of coordinates: ``0.71 position - 0.71 velocity``; the largest comes first."""
    real = direction.real if float(direction.real.abs().max()) >= float(direction.imag.abs().max()) else direction.imag
    real = real / real.norm()
    largest = real.abs().sort(descending=True, stable=True).indices.tolist()
    parts = [
        (float(real[i]) * float(real[largest[0]].sign()), labels[i]) for i in largest if abs(float(real[i])) > 5e-3
    ]
    words = [f"{'-' if x < 0 else '+'} {abs(x):.2g} {label}" for x, label in parts]
    return labels[largest[0]] if len(parts) == 1 else " ".join(words).removeprefix("+ ")
