"""Roll-outs: trajectories of a world under given noise, and what optimality thinks of them."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.noise_program import NoiseProgram
from cai.errors import ImpossibleError, fault


@dataclass(frozen=True)
class Rollouts:
    """N trajectories of T steps under given noise.

    Attributes:
        states: s_0 … s_T, ``[N, T+1, n]``.
        actions: a_0 … a_{T-1}, ``[N, T, m]``.
        rewards: r_0 … r_{T-1}, the terminal reward apart, reward units; 0 once an episode has ended, ``[N, T]``.
        terminal: r_T, ``[N]``.
    """

    states: Float[Tensor, "N T1 n"]
    actions: Float[Tensor, "N T m"]
    rewards: Float[Tensor, "N T"]
    terminal: Float[Tensor, " N"]

    @property
    def paid(self) -> Float[Tensor, "N T"]:
        """The rewards, the terminal one within the last."""
        return torch.cat((self.rewards[:, :-1], (self.rewards[:, -1] + self.terminal).unsqueeze(-1)), -1)


def rollouts(
    program: NoiseProgram,
    start: Float[Tensor, "N k0"],
    act: Float[Tensor, "N T k"],
    step: Float[Tensor, "N T j"],
) -> Rollouts:
    """Run a world under noise of the start, of the actions and of the steps; an ended episode stays as it is.

    Raises:
        WorldError: a state is NaN, or a reward is NaN or +inf.
    """
    states, actions, paid = program.roll(program.start(start), act, step)
    require_rewards(program, paid)
    require_states(program, states)
    return Rollouts(states, actions, paid, terminal(program, states[:, -1]))


def terminal(program: NoiseProgram, s: Tensor) -> Tensor:
    """Return r_T.

    Raises:
        WorldError: it is NaN or +inf.
    """
    r = program.terminal(s)
    if not bool((r < math.inf).all()):
        seen = float(r[~(r < math.inf)][0])
        raise fault(f"terminal, t = {program.first + program.horizon}, reward", f"{seen}", "a number, or -inf")
    return r


def require_states(program: NoiseProgram, s: Float[Tensor, "N T n"], t: int = 0) -> None:
    """Raise unless the states from time t on are numbers.

    Raises:
        WorldError: one is NaN; it names the first such time.
    """
    wrong = s.isnan()
    if bool(wrong.any()):
        late, i = divmod(int(wrong.any(0).flatten().int().argmax()), s.shape[-1])
        raise fault(f"state {program.states.labels[i]}, t = {program.first + t + late}", "nan", "a number")


def advance(program: NoiseProgram, t: int, s: Tensor, a: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return s_{t+1} and r_t; an ended episode stays and pays nothing.

    Raises:
        WorldError: a reward is NaN or +inf, or a state is NaN.
    """
    following, r = program.step(t, s, a, z)
    ended = program.ended(s)
    if ended is not None:
        following, r = torch.where(ended.unsqueeze(-1), s, following), torch.where(ended, 0.0, r)
    require_rewards(program, r.unsqueeze(-1), t)
    require_states(program, following.unsqueeze(1), t + 1)
    return following, r


def require_rewards(program: NoiseProgram, r: Float[Tensor, "N T"], t: int = 0) -> None:
    """Raise unless the rewards from time t on are numbers, or -inf.

    Raises:
        WorldError: one is NaN or +inf; it names the first such time.
    """
    wrong = ~(r < math.inf)
    if bool(wrong.any()):
        late = int(wrong.any(0).int().argmax())
        seen = float(r[:, late][wrong[:, late]][0])
        raise fault(f"step, t = {program.first + t + late}, reward", f"{seen}", "a number, or -inf")


def log_optimality(log_potentials: Float[Tensor, "N T"], log_terminal: Tensor, discount: float) -> Tensor:
    """Return log p(O_0 … O_t = 1 | τ) for each t, survival summed out, the terminal reward within the last, ``[N, T]``.

    With probability 1-γ after each step nothing more is paid: ``Σ_{u≤t} γ^u (1-γ) exp(R_u) + γ^{t+1} exp(R_t)``, where
    R_u is the sum of the log-potentials until u, nats.
    """
    paid = log_potentials.cumsum(-1)
    last = torch.zeros_like(paid)
    last[:, -1] = log_terminal
    if discount == 1:
        return paid + last
    times = torch.arange(paid.shape[-1], dtype=paid.dtype)
    log_gamma = math.log(discount)
    dying = times * log_gamma + math.log1p(-discount) + paid
    return torch.logaddexp(dying.logcumsumexp(-1), (times + 1) * log_gamma + paid + last)


def require_possible(where: str, program: NoiseProgram, log_weights: Tensor, best: Tensor) -> None:
    """Raise unless some trajectory is possible, and the weights of all are numbers.

    Args:
        where: who asks.
        program: the world.
        log_weights: of O_0 … O_t, ``[N, T]``.
        best: the return until each time, ``[N, T]``, reward units.

    Raises:
        WorldError: a weight is beyond float64.
        ImpossibleError: all weights are 0; it names the first such time, and the best return until then.
    """
    require_within(where, log_weights)
    dead = (log_weights == -math.inf).all(0)
    if bool(dead.any()):
        t = int(dead.int().argmax())
        until = f"the best return before is {float(best[:, t - 1].max()):g}" if t else "it is the first time"
        raise ImpossibleError(
            f"{where}, t = {program.first + t}: none of {len(log_weights)} trajectories is possible from here on "
            f"(reward -inf on all); {until}; expected more samples, or a prior under which some trajectory is possible"
        )


def require_within(where: str, log_weights: Tensor) -> None:
    """Raise unless log-weights are numbers, or -inf.

    Raises:
        WorldError: one is beyond float64.
    """
    if not bool((log_weights < math.inf).all()):
        seen, expected = "the log-weight of a trajectory is beyond float64", "smaller rewards, or a higher temperature"
        raise fault(where, seen, expected)


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """Return (Σ w)² / Σ w² over the first axis (Kong 1992); 0 where all weights are 0."""
    most = log_weights.amax(0)
    w = (log_weights - torch.where(most.isfinite(), most, 0.0)).exp()
    return w.sum(0).square() / w.square().sum(0).clamp(min=torch.finfo(w.dtype).tiny)
