"""Gain and covariance over long horizons against 50-digit arithmetic."""

from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import cai
from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import Quadratic
from cai.exact.gaussian.homogeneous import homogeneous, matrix_of, quadratic_of
from cai.exact.gaussian.riccati import recursion
from cai.exact.gaussian.scan import scan
from cai.exact.rules import POSTERIOR, VARIATIONAL, Rule
from tests.linear_systems import random_system

Exact = NDArray[Any]
"""Numbers of 50 digits."""
ALPHA = 50


def regulator(seed: int, T: int) -> LinearGaussian:
    """Return ``r = -½ |C s|² - ½ |a|²`` under a flat prior; A has the spectral radius 1.05."""
    draft = random_system(seed, 4, 2, 4, T=T, flat=True, radius=1.05)
    C = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    cost = torch.block_diag(C.mT @ C, torch.eye(2), torch.zeros(4, 4)).double()
    reward = replace(Quadratic.zero(10, C), M=-cost)
    slices = replace(draft.slices, reward=reward, drift=0 * draft.slices.drift)
    return replace(draft, slices=slices, terminal=replace(Quadratic.zero(4, C), M=-C.mT @ C))


def exact(matrix: torch.Tensor) -> Exact:
    """Return the same numbers with 50 digits."""
    return np.vectorize(Decimal, otypes=[object])(matrix.numpy())


def solved(S: Exact, G: Exact) -> Exact:
    """Return S⁻¹G by elimination; 50 digits need no pivots."""
    S, G = S.copy(), G.copy()
    for i in range(len(S)):
        for j in range(len(S)):
            if i != j:
                ratio = S[j, i] / S[i, i]
                S[j], G[j] = S[j] - ratio * S[i], G[j] - ratio * G[i]
    return G / np.diagonal(S)[:, None]


def textbook(system: LinearGaussian, rule: Rule, T: int) -> tuple[Exact, Exact]:
    """Return K_0 and the covariance of a_0: ``K = -(R + B'PB)⁻¹B'PA`` and ``α (R + B'PB)⁻¹``, in 50 digits.

    Under POSTERIOR ``P (I + W P/α)⁻¹`` takes the place of P, W the covariance of the noise.
    """
    A, B, G = (exact(part) for part in system.slices.transition.split([4, 2, 4], -1))
    cost, R, one = -exact(system.terminal.M), exact(torch.eye(2)), exact(torch.eye(4))
    P, W = cost, G @ G.T / ALPHA
    gain = covariance = R
    for _ in range(T):
        U = P if rule.averages else solved(one + P @ W, P)
        U = (U + U.T) / 2
        S = R + B.T @ U @ B
        gain, covariance = -solved(S, B.T @ U @ A), ALPHA * solved(S, one[:2, :2])
        P = cost + A.T @ U @ A + A.T @ U @ B @ gain
        P = (P + P.T) / 2
    return gain, covariance


def check(seed: int, rule: Rule, T: int) -> None:
    """Compare the recursion and the scan, and the policy of a solve."""
    system = regulator(seed, T)
    with localcontext() as digits:
        digits.prec = 50
        gain, covariance = (x.astype(float) for x in textbook(system, rule, T))
    found = cai.solve(system, rule, temperature=ALPHA)
    slices = homogeneous(system, rule, found.temperature)
    assert slices is not None
    ways = [way(slices, matrix_of(system.terminal), T) for way in (recursion, scan)]
    values = [found.operator.at(found.v, 1), *(quadratic_of(P[1]) for P, _ in filter(None, ways))]
    assert len(values) == 3
    for v in values:
        act = found.operator.log_policy(0, v)
        assert np.abs(act.gain.numpy() - gain).max() < 1e-9 * np.abs(gain).max()
        assert np.abs(act.covariance.numpy() - covariance).max() < 1e-9 * np.abs(covariance).max()


@pytest.mark.parametrize("rule", [VARIATIONAL, POSTERIOR])
def test_three_hundred_steps_keep_their_digits(rule: Rule) -> None:
    """T = 300, where a recursion that is not symmetric has lost the gain."""
    check(0, rule, 300)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [VARIATIONAL, POSTERIOR])
@pytest.mark.parametrize("seed", range(3))
def test_ten_thousand_steps_keep_their_digits(seed: int, rule: Rule) -> None:
    """T = 10^4."""
    check(seed, rule, 10_000)
