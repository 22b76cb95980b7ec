"""The ELBO of a Gaussian law of the noise, measured on roll-outs: of a policy it is the policy's own.

ELBO(q) = E_q[Σ_t γ^t (r_t/α - KL(q(w_t|s_t) ‖ N(0, I)) - KL(q(z_t|s_t, w_t) ‖ N(0, I)))] - KL(q(z) ‖ N(0, I))
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.approximation.estimate import Estimate
from cai.approximation.noise_law import Divergence, NoiseLaw
from cai.approximation.rollouts import Rollouts, effective_sample_size, log_optimality, require_rewards, terminal
from cai.compile.noise_program import NoiseProgram

SURE = 3.0
"""How many standard errors a sampled lower bound lies below its estimate."""
FEW = 10.0
"""The effective sample size below which weights say nothing of the error of their mean."""


@dataclass(frozen=True)
class Drawn:
    """N trajectories under a law q of the noise, each as if it survived.

    Attributes:
        runs: the roll-outs.
        log_ratio: log p - log q of the noise until each time, while the episode goes on, nats, ``[N, T]``.
        elbo: the terms of ELBO(q), whose mean it is, nats, ``[N]``; the divergences are exact at the states drawn.
    """

    runs: Rollouts
    log_ratio: Float[Tensor, "N T"]
    elbo: Float[Tensor, " N"]

    def log_weights(self, alpha: float, discount: float) -> Float[Tensor, "N T"]:
        """Return the log-weights of the trajectories for p(τ|O_0 … O_t), nats; the mean weight is Z without bias."""
        return self.log_ratio + log_optimality(self.runs.rewards / alpha, self.runs.terminal / alpha, discount)


def drawn(program: NoiseProgram, law: NoiseLaw, alpha: float, samples: int, generator: torch.Generator) -> Drawn:
    """Draw trajectories under a law; the same state of the generator gives every law the same normal numbers.

    Raises:
        WorldError: a reward is NaN or +inf.
    """
    T, j, k = program.horizon, program.act_noise, program.step_noise
    sizes = (program.start_noise, T * j, T * k)
    begin, act, step = torch.randn(samples, sum(sizes), generator=generator, dtype=torch.float64).split(sizes, -1)
    act, step, nothing = act.reshape(samples, T, j), step.reshape(samples, T, k), begin[:, :0]
    q_start, q_act, q_step = (Divergence.of(part) for part in (law.start, law.act, law.step))
    z_0, kl, ratio = q_start.draw(nothing, begin)
    s, elbo, log_p, kept = program.start(z_0), -kl, -ratio, 1.0
    states, (actions, rewards, ratios) = [s], (list[Tensor](), list[Tensor](), list[Tensor]())
    for t in range(T):
        ended = program.ended(s)
        w, kl_w, ratio_w = q_act[t].draw(s, act[:, t])
        z, kl_z, ratio_z = q_step[t].draw(torch.cat((s, w), -1), step[:, t])
        kl, ratio = kl_w + kl_z, ratio_w + ratio_z
        if ended is not None:
            kl, ratio = torch.where(ended, 0.0, kl), torch.where(ended, 0.0, ratio)
        a, s, r = program.advance(t, s, w, z)
        elbo, log_p, kept = elbo + kept * (r / alpha - kl), log_p - ratio, kept * program.discount
        states, actions, rewards, ratios = [*states, s], [*actions, a], [*rewards, r], [*ratios, log_p]
    runs = Rollouts(torch.stack(states, 1), torch.stack(actions, 1), torch.stack(rewards, 1), terminal(program, s))
    return Drawn(runs, torch.stack(ratios, 1), elbo + kept * runs.terminal / alpha)


def policy_elbo(
    program: NoiseProgram, law: NoiseLaw, alpha: float, samples: int, generator: torch.Generator
) -> Estimate:
    """Estimate the ELBO of a law of the noise, nats; of ``law.policy`` it is ELBO(π), below ELBO* ≤ log Z.

    Raises:
        WorldError: a reward is NaN or +inf.
    """
    found = drawn(program, law, alpha, samples, generator)
    require_rewards(program, found.runs.rewards)
    return below(found.elbo)


def below(each: Tensor) -> Estimate:
    """Return the mean of samples as an estimate, and three standard errors less as a sampled lower bound."""
    mean = float(each.mean())
    if not math.isfinite(mean) or len(each) < 2:
        return Estimate()
    error = float(each.std()) / len(each) ** 0.5
    return Estimate(mean, error, lower=mean - SURE * error, sampled=True)


def log_mean(log_weights: Float[Tensor, " N"]) -> Estimate:
    """Return log of the mean weight, nats, with its standard error by the delta method.

    Where a few weights are all that counts, larger ones are likely missing, and the error is not known: infinite.
    """
    N, size = len(log_weights), float(effective_sample_size(log_weights))
    error = math.sqrt(max(1 / size - 1 / N, 0.0) * N / max(N - 1, 1)) if size >= min(FEW, N) else math.inf
    return Estimate(float(log_weights.logsumexp(0)) - math.log(N), error)


def scarce(size: float, draws: int, option: str) -> tuple[str, ...]:
    """Say in words what follows from too small an effective sample size, and which option of the method raises it."""
    if size >= min(FEW, draws):
        return ()
    seen = f"effective sample size {size:.3g} of {draws}: log Z is likely too low, and its error is not known"
    return (f"{seen}; raise the temperature or the {option}",)
