"""Random linear-Gaussian systems: as plain numbers that the oracles read, as ``LinearGaussian``, as Pyro programs.

Shape letters: ``I`` is T where the slices differ over time, else 1; ``n, m, k, j`` coordinates of the state, the
action, the slice's noise, the action's noise.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import pyro
import torch
from hypothesis import strategies as st
from pyro.distributions import Delta, MultivariateNormal, Normal
from torch import Tensor

from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.quadratic import ConditionalGaussian, Quadratic
from cai.world.coordinates import Coordinates


@dataclass(frozen=True)
class System:
    """``s' = A s + B a + G z + d``, ``r = ½ y'My + b'y + c`` with y = (s, a, z), ``a = K s + e + L w``, z, w ~ N(0, I).

    A, B, G, d, M, b, c, K, e, L and ``log_volume`` have the axis I first. Where ``flat`` the action is w itself, with
    Lebesgue measure. The start is ``mean + S ξ``; the terminal reward is ``½ s'Ms s + bs's + cs``.
    """

    A: Tensor
    B: Tensor
    G: Tensor
    d: Tensor
    M: Tensor
    b: Tensor
    c: Tensor
    K: Tensor
    e: Tensor
    L: Tensor
    log_volume: Tensor
    mean: Tensor
    S: Tensor
    Ms: Tensor
    bs: Tensor
    cs: Tensor
    T: int
    flat: bool = False
    discount: float = 1.0

    @property
    def n(self) -> int:
        return self.B.shape[-2]

    @property
    def m(self) -> int:
        return self.B.shape[-1]

    @property
    def k(self) -> int:
        return self.G.shape[-1]

    def index(self, t: int) -> int:
        """Return where the numbers of time t stand."""
        return t if len(self.A) > 1 else 0

    def with_gradients(self) -> "System":
        """Return the same numbers as leaves that want gradients."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **{name: x.clone().requires_grad_() for name, x in tensors.items()})

    def repeated(self) -> "System":
        """Return the same stationary system with its numbers written out for each time."""
        return replace(self, **{name: getattr(self, name).repeat_interleave(self.T, 0) for name in SLICE})

    def model(self) -> LinearGaussian:
        """Return it as cai has it."""
        return model_of([self])[0]


SLICE = ("A", "B", "G", "d", "M", "b", "c", "K", "e", "L", "log_volume")


def model_of(systems: list[System]) -> LinearGaussian:
    """Return a batch of alike systems as cai has it."""
    one = systems[0]
    timed = len(one.A) > 1

    def all_of(name: str) -> Tensor:
        each = torch.stack([getattr(system, name) for system in systems])
        return each if timed or name not in SLICE else each[:, 0]

    transition = torch.cat([all_of("A"), all_of("B"), all_of("G")], -1)
    slices = LinearSlice(
        transition=transition,
        drift=all_of("d"),
        reward=Quadratic(all_of("M"), all_of("b"), all_of("c")),
        prior=ConditionalGaussian(all_of("K"), all_of("e"), all_of("L")),
        flat=torch.full_like(all_of("L")[..., 0, :], one.flat, dtype=torch.bool),
        readout=transition,
        readout_offset=all_of("d"),
        log_volume=all_of("log_volume"),
    )
    state = Coordinates(("s",), (torch.Size([one.n]),), False)
    action = Coordinates(("a",), (torch.Size([one.m]),), False)
    last = Quadratic(all_of("Ms"), all_of("bs"), all_of("cs"))
    return LinearGaussian(
        slices=slices,
        start_mean=all_of("mean"),
        start_scale=all_of("S"),
        terminal=last,
        horizon=one.T,
        discount=one.discount,
        timed=timed,
        states=state,
        actions=action,
        sites=state,
    )


def random_system(
    seed: int,
    n: int = 2,
    m: int = 1,
    k: int = 2,
    T: int = 3,
    *,
    timed: bool = False,
    flat: bool = False,
    start: int | None = None,
    free: int | None = None,
    noise: float = 0.5,
    lift: float = 0.0,
    discount: float = 1.0,
) -> System:
    """Draw a system with cross terms, linear terms, correlated noise and a terminal reward.

    Args:
        seed: of the numbers.
        n, m, k, T: the sizes; k < n is singular noise, k = 0 deterministic dynamics.
        timed: whether the slices differ.
        flat: whether the action prior is Lebesgue measure.
        start, free: the columns of the start's and of the action prior's scale, n and m unless given: fewer are a
            singular covariance, more are one factor of many. A flat prior has m.
        noise: the size of G.
        lift: how much of the identity is added to the reward's negative semi-definite matrices.
        discount: γ.
    """
    g = torch.Generator().manual_seed(seed)
    times, N = (T if timed else 1), n + m + k

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    def concave(size: int, *lead: int) -> Tensor:
        root = normal(*lead, size, size)
        return lift * torch.eye(size, dtype=torch.float64) - 0.5 * root @ root.mT / size**0.5

    M = concave(N, times)
    M[:, n : n + m, n : n + m] -= 0.2 * torch.eye(m, dtype=torch.float64)  # so that the hard rules have a maximum
    free = m if free is None else free
    wide = max(m, free)
    L = normal(times, m, wide) + 1.5 * torch.eye(m, wide, dtype=torch.float64)
    eye = torch.eye(m, dtype=torch.float64).expand(times, m, m).clone()
    return System(
        A=0.8 * normal(times, n, n) / n**0.5,
        B=normal(times, n, m),
        G=noise * normal(times, n, k),
        d=0.3 * normal(times, n),
        M=M,
        b=0.5 * normal(times, N),
        c=normal(times),
        K=torch.zeros(times, m, n, dtype=torch.float64) if flat else 0.5 * normal(times, m, n),
        e=torch.zeros(times, m, dtype=torch.float64) if flat else 0.5 * normal(times, m),
        L=eye if flat else L[..., :free],
        log_volume=normal(times),
        mean=normal(n),
        S=normal(n, n if start is None else start),
        Ms=concave(n),
        bs=0.5 * normal(n),
        cs=normal(1)[0],
        T=T,
        flat=flat,
        discount=discount,
    )


@st.composite
def systems(draw: Any, **fixed: Any) -> System:
    """Draw small systems of all kinds; what is fixed is not drawn."""
    n, m = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    drawn = {
        "seed": draw(st.integers(0, 2**20)),
        "n": n,
        "m": m,
        "k": draw(st.integers(0, 3)),
        "T": draw(st.integers(1, 4)),
        "timed": draw(st.booleans()),
        "flat": draw(st.booleans()),
        "start": draw(st.integers(0, n + 1)),
        "free": draw(st.integers(0, m)),
        "noise": draw(st.sampled_from([0.1, 0.5, 1.0])),
    }
    return random_system(**{**drawn, **fixed})


def alike(*vectors: Tensor) -> list[Tensor]:
    """Return vectors with the same leading axes."""
    batch = torch.broadcast_shapes(*(x.shape[:-1] for x in vectors))
    return [x.expand(*batch, x.shape[-1]) for x in vectors]


temperatures = st.sampled_from([0.2, 1.0, 4.0])


@dataclass
class LinearWorld:
    """A random linear-Gaussian world as a plain Pyro program: a latent, then the next state, noisy or certain.

    ``s' = A s + B a + C e + d (+ R ε)`` with the latent ``e ~ N(mu, tau)``, ε ~ N(0, I); the reward is
    ``½ x'Qx + p'x + h`` with x = (s, a, e, s'). So y = (s, a, z) has z = ((e - mu)/tau, ε).
    """

    seed: int
    n: int = 2
    m: int = 1
    latent: int = 1
    noisy: bool = True
    horizon: int | None = 3
    timed: bool = False
    discount: float = 1.0

    def __post_init__(self) -> None:
        g = torch.Generator().manual_seed(self.seed)
        times, n, m, e = self.horizon if self.timed else 1, self.n, self.m, self.latent

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float64)

        def lower(*shape: int) -> Tensor:
            return 0.6 * normal(*shape).tril(-1) + torch.diag_embed(normal(*shape[:-1]).abs() + 0.3)

        self.A, self.B, self.C, self.d = (
            0.6 * normal(times, n, n),
            normal(times, n, m),
            0.5 * normal(times, n, e),
            0.3 * normal(times, n),
        )
        self.R, self.mu, self.tau = lower(times, n, n), normal(times, e), normal(times, e).abs() + 0.2
        root = normal(times, 2 * n + m + e, 2 * n + m + e)
        self.Q, self.p, self.h = -0.3 * root @ root.mT, 0.3 * normal(times, 2 * n + m + e), normal(times)
        self.K, self.e, self.L = 0.5 * normal(times, m, n), 0.5 * normal(times, m), lower(times, m, m)
        self.start_mean, self.start_scale = normal(n), lower(n, n)
        last = normal(n, n)
        self.last_Q, self.last_p = -0.3 * last @ last.mT, 0.3 * normal(n)

    def initial(self) -> Tensor:
        return pyro.sample("s", MultivariateNormal(self.start_mean, scale_tril=self.start_scale))

    def act(self, state: Tensor, t: int) -> Tensor:
        i = t if self.timed else 0
        return pyro.sample("a", MultivariateNormal(state @ self.K[i].mT + self.e[i], scale_tril=self.L[i]))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        i = t if self.timed else 0
        latent = state[..., :0]
        if self.latent:
            latent = pyro.sample("e", Normal(self.mu[i], self.tau[i]).to_event(1))
        loc = state @ self.A[i].mT + action @ self.B[i].mT + latent @ self.C[i].mT + self.d[i]
        law = MultivariateNormal(loc, scale_tril=self.R[i]) if self.noisy else Delta(loc, event_dim=1)
        following = pyro.sample("s", law)
        x = torch.cat(alike(state, action, latent, following), -1)
        return following, 0.5 * (x @ self.Q[i] * x).sum(-1) + x @ self.p[i] + self.h[i]

    def terminal(self, state: Tensor) -> Tensor:
        return 0.5 * (state @ self.last_Q * state).sum(-1) + state @ self.last_p

    def system(self) -> System:
        """Return its numbers, worked out by hand."""
        n, m, e = self.n, self.m, self.latent
        eps = n if self.noisy else 0
        times, N = len(self.A), n + m + e + eps
        eye = torch.eye(N, dtype=torch.float64).expand(times, N, N)
        state, action, z, noise = eye[:, :n], eye[:, n : n + m], eye[:, n + m : n + m + e], eye[:, n + m + e :]
        latent = torch.diag_embed(self.tau) @ z
        following = self.A @ state + self.B @ action + self.C @ latent
        following = following + self.R @ noise if self.noisy else following
        d = self.d + (self.C @ self.mu.unsqueeze(-1)).squeeze(-1)
        F = torch.cat([state, action, latent, following], -2)
        f = torch.cat([torch.zeros(times, n + m, dtype=torch.float64), self.mu, d], -1)
        slope = self.p + (self.Q @ f.unsqueeze(-1)).squeeze(-1)
        volume = self.tau.log().sum(-1)
        return System(
            A=following[..., :n],
            B=following[..., n : n + m],
            G=following[..., n + m :],
            d=d,
            M=F.mT @ self.Q @ F,
            b=(F.mT @ slope.unsqueeze(-1)).squeeze(-1),
            c=self.h + 0.5 * ((self.p + slope) * f).sum(-1),
            K=self.K,
            e=self.e,
            L=self.L,
            log_volume=volume + torch.linalg.slogdet(self.R).logabsdet if self.noisy else volume,
            mean=self.start_mean,
            S=self.start_scale,
            Ms=self.last_Q,
            bs=self.last_p,
            cs=torch.zeros((), dtype=torch.float64),
            T=self.horizon,
            discount=self.discount,
        )
