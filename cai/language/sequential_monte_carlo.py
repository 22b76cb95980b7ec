"""Sequential Monte Carlo over tokens: an estimate of Z without bias, and weighted texts.

    x_t ~ p(x|s_t) exp(r/α) ψ_{t+1}(s_t x) / c_t,   weight_t = c_t / ψ_t(s_t)

With ψ = 1 and no resampling it is importance sampling; with ψ = β every weight is Z (Zhao et al. 2024;
Lew et al. 2023). By Jensen E log Ẑ ≤ log Z, and log Z - E log Ẑ is at least the KL of a text drawn from a run's
particles to the exact conditional (Maddison et al. 2017).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.approximation.estimate import Estimate
from cai.approximation.particles import systematic
from cai.approximation.rollouts import effective_sample_size
from cai.errors import fault
from cai.language.conditional import Conditional, conditional
from cai.language.text_world import TextWorld, require_text_world
from cai.learn.loop import require_number, require_whole
from cai.support.numerics import logsumexp
from cai.support.progress import bar


@dataclass(frozen=True)
class WeightedTexts:
    """R independent runs of N particles.

    Attributes:
        log_estimates: log Ẑ of each run, nats, ``[R]``; -inf where all of its particles died.
        tokens: the texts, ``[R, N, T]``.
        log_weights: normalised in each run, nats, ``[R, N]``.
    """

    log_estimates: Float[Tensor, " R"]
    tokens: Int[Tensor, "R N T"]
    log_weights: Float[Tensor, "R N"]

    @property
    def log_evidence(self) -> Estimate:
        """log of the mean Ẑ, with a standard error by the delta method; unknown of one run."""
        R, log_z = len(self.log_estimates), self.log_estimates
        value = float(log_z.logsumexp(0)) - math.log(R)
        known = R > 1 and math.isfinite(value)
        return Estimate(value, float((log_z - value).exp().std()) / math.sqrt(R) if known else math.inf)

    def bias(self, log_evidence: float) -> Estimate:
        """Return E log Ẑ - log Z over the runs, nats, given the exact log Z: at most 0, but for the noise of it."""
        require_number("bias, log_evidence", log_evidence, math.isfinite, "log Z, a finite number")
        difference, R = self.log_estimates - log_evidence, len(self.log_estimates)
        known = R > 1 and bool(difference.isfinite().all())
        return Estimate(float(difference.mean()), float(difference.std()) / math.sqrt(R) if known else math.inf)


@torch.no_grad()
def sequential_monte_carlo(
    world: TextWorld,
    *,
    temperature: float = 1.0,
    twist: Conditional | None = None,
    particles: int = 100,
    runs: int = 10,
    resample_below: float = 0.5,
    seed: int = 0,
    progress: bool = True,
) -> WeightedTexts:
    """Run sequential Monte Carlo for p(text | O) of a world of language.

    Args:
        world: a world of language; it need not be solved.
        temperature: α > 0, reward units.
        twist: ψ_t(prefix) is the β of this conditional, of the world itself or of another with the same tokens and
            horizon: of an n-gram of a lower order. Unless given ψ = 1, the bootstrap. log Ẑ has a bias where the twist
            takes for impossible what is possible.
        particles: N.
        runs: R.
        resample_below: resample where the effective sample size falls below this share of N; 0 never: importance
            sampling, from the reference where there is no twist.
        seed: of all draws.
        progress: show a bar on a terminal.

    Raises:
        WorldError: an argument is not valid, or the twist is of a world with other tokens or another horizon.
    """
    require_text_world("sequential_monte_carlo", world)
    alpha = require_number("temperature", temperature, lambda a: 0 < a < math.inf, "a positive, finite number")
    require_whole("particles", particles, 1)
    require_whole("runs", runs, 1)
    require_number("resample_below", resample_below, lambda x: 0 <= x <= 1, "a share of the particles, 0 to 1")
    if twist is not None and not isinstance(twist, Conditional):
        raise fault("twist", f"a {type(twist).__name__}", "what cai.language.conditional returns, or None")
    if twist is not None and (twist.world.vocabulary, twist.world.horizon) != (world.vocabulary, world.horizon):
        seen = f"{len(twist.world.vocabulary)} tokens, T = {twist.world.horizon}"
        raise fault("twist", seen, f"the world's own {len(world.vocabulary)} tokens, T = {world.horizon}")
    generator, found = torch.Generator().manual_seed(require_whole("seed", seed, 0)), []
    with bar("sequential Monte Carlo", runs, shown=progress) as tell:
        for i in range(runs):
            found.append(_run(world, alpha, twist, particles, resample_below, generator))
            tell(i + 1, "")
    log_z, tokens, log_w = zip(*found, strict=True)
    return WeightedTexts(torch.stack(log_z), torch.stack(tokens), torch.stack(log_w))


def relative_variance(world: TextWorld, *, temperature: float = 1.0) -> float:
    """Return Var w / Z² of importance sampling from the reference, w = exp(reward/α), exactly: Z(α/2) / Z(α)² - 1.

    The estimate of Z from N texts has this over N; it needs some N ≈ 1 + Var w / Z² texts for one effective sample.
    """
    exact = conditional(world, temperature=temperature)
    once, twice = exact.log_evidence, conditional(world, temperature=exact.temperature / 2).log_evidence
    return math.expm1(twice - 2 * once) if twice - 2 * once < 700 else math.inf


def _run(
    world: TextWorld, alpha: float, twist: Conditional | None, N: int, below: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log Ẑ, the texts ``[N, T]`` and their normalised log-weights."""
    s, guide = world.begin(N), None if twist is None else twist.world.begin(N)
    tokens = torch.zeros(N, world.horizon, dtype=torch.long)
    log_psi = torch.zeros(N, dtype=torch.float64) if twist is None else twist.log_ahead(0, guide)
    log_w = log_psi.clone()
    for t in range(world.horizon):
        if t and bool((log_w > -torch.inf).any()) and float(effective_sample_size(log_w)) < below * N:
            i = systematic(log_w.log_softmax(0), generator)
            s, guide, tokens, log_psi = _chosen(s, i), _chosen(guide, i), tokens[i], log_psi[i]
            log_w = (log_w.logsumexp(0) - math.log(N)).expand(N)
        after = _log_after(twist, t, guide, N, len(world.vocabulary))
        each = world.log_tokens(s) + _rewards(world, s) / alpha + after
        total = logsumexp(each, -1, keepdim=True)
        dead = total == -torch.inf
        proposal = torch.where(dead, world.log_tokens(s), each - torch.where(dead, 0.0, total))
        x = torch.multinomial(proposal.exp(), 1, generator=generator)
        log_w = torch.where(log_w > -torch.inf, log_w + total.squeeze(-1) - log_psi, -torch.inf)
        log_psi, x = after.gather(-1, x).squeeze(-1), x.squeeze(-1)
        tokens[:, t] = x
        s, guide = world.append(s, x), guide if twist is None else twist.world.append(guide, x)
    log_w = torch.where(log_w > -torch.inf, log_w + world.terminal(s) / alpha - log_psi, -torch.inf)
    log_z = logsumexp(log_w, 0)
    return log_z - math.log(N), tokens, log_w - torch.where(log_z > -torch.inf, log_z, 0.0)


def _log_after(twist: Conditional | None, t: int, guide: Any, N: int, V: int) -> Float[Tensor, "N V"]:
    """Return log ψ_{t+1} after each token; as if it were not there where the twist's own world never says it."""
    if twist is None:
        return torch.zeros(N, V, dtype=torch.float64)
    q, r = twist.log_q(t, guide), _rewards(twist.world, guide)
    said = (twist.world.log_tokens(guide) > -torch.inf) & (r > -torch.inf)
    stays = twist.log_ahead(t + 1, guide).unsqueeze(-1)
    return torch.where(said, q - torch.where(said, r, 0.0) / twist.temperature, stays)


def _rewards(world: TextWorld, state: Any) -> Float[Tensor, "N V"]:
    return world.pays(state, torch.arange(len(world.vocabulary)).unsqueeze(-1)).movedim(0, -1)


def _chosen(state: Any, i: Tensor) -> Any:
    if isinstance(state, dict):
        return {name: x[i] for name, x in state.items()}
    return None if state is None else state[i]
