"""Stable-Baselines3 in: a trained model, of sb3-contrib too, becomes a policy of the world it was trained on."""

import math
import sys
from dataclasses import dataclass
from typing import Any

import gymnasium
import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from cai.bridges.encoding import Encoding, allowed_values, encode
from cai.bridges.environment import WorldEnvironment
from cai.compile.ends import ended_states
from cai.errors import fault
from cai.policies.action_programs import enumerated, finite_spaces
from cai.policies.heads import tanh_gaussian
from cai.policies.protocol import Policy, probabilities, sample_joint, sampled, scored
from cai.policies.readable import in_state
from cai.policies.terminated import replace_terminated
from cai.simulate.worlds import prior_at
from cai.support.process import precision
from cai.world.spaces import Space, Values

SAMPLED = ("PPO", "A2C", "TRPO", "MaskablePPO")
GREEDY = ("DQN", "QRDQN")
SQUASHED = ("SAC", "TQC", "CrossQ")
KINDS = (*SAMPLED, *GREEDY, *SQUASHED)
REFUSED = {
    "RecurrentPPO": "its actions depend on the memory of its LSTM, not on the state alone",
    "TD3": "it is deterministic: the KL of a point mass to a prior with a density is infinite",
    "DDPG": "it is deterministic: the KL of a point mass to a prior with a density is infinite",
}
"""Kinds of which there is no policy p(a|s), and why."""
CHUNK = 4096  # states at once: the network sees one number for each value of a finite variable


@dataclass(frozen=True)
class StableBaselinesPolicy:
    """A model's policy at the world's own action sites; it reads the model's current weights.

    Attributes:
        model: the Stable-Baselines3 model.
        encoding: what it sees of the world.
        asked: the states it is asked about in place of all, ``[S]``, where it does not know the ended ones; else None.
        horizon: None: the model knows no time, its policy is the same at all times.
    """

    model: Any
    encoding: Encoding
    asked: Tensor | None = None
    horizon: None = None

    probs = probabilities
    sample = sampled
    log_prob = scored
    at = in_state

    @property
    def spaces(self) -> tuple[Space, Space] | None:
        """What the numbers of states and actions mean, where they are finite."""
        return self.encoding.spec.variables.spaces

    def act(self, state: Values, t: int) -> Values:
        """Sample the world's action sites."""
        actions = self.encoding.spec.variables.action_space
        if actions is not None:
            return sample_joint(actions, self._log_pi(state, t))
        gaussian = self._gaussian(state)
        names = [variable.name for variable in self.encoding.spec.variables.actions]
        return self.encoding.pack({name: pyro.sample(name, gaussian[name]) for name in names})

    def log_probs(self, t: int = 0) -> Float[Tensor, "S A"]:
        """Return log π(a|s), nats, float64.

        Raises:
            IntractableError: states or actions are not finite, or too many for a table.
        """
        states, _ = finite_spaces(self.spaces)
        with precision(torch.float64):
            chunks = torch.arange(states.size).split(CHUNK)
            return torch.cat([self._log_pi(states.pack(states.split(some)), t) for some in chunks])

    @torch.no_grad()
    def _log_pi(self, state: Values, t: int) -> Tensor:
        """Return log π of the numbered actions, ``[*, A]``, float64."""
        batch, seen = self._seen(state)
        kind = _kind(self.model)
        if kind in GREEDY:
            q = self.model.q_net(seen) if kind == "DQN" else self.model.quantile_net(seen).mean(-2)
            log_pi = torch.full(q.shape, -torch.inf, dtype=torch.float64)
            log_pi.scatter_(-1, q.argmax(-1, keepdim=True).cpu(), 0.0)
            return log_pi.reshape((*batch, -1))
        law = self.model.policy.get_distribution(seen)
        law = law.distributions if hasattr(law, "distributions") else law.distribution  # several, maskable
        parts = [part.logits.cpu().double() for part in (law if isinstance(law, list) else [law])]
        if kind == "MaskablePPO":
            parts = [_masked(logits, mask) for logits, mask in zip(parts, self._masks(state, t), strict=True)]
        log_pi = torch.zeros((len(seen), 1), dtype=torch.float64)
        for logits in parts:  # independent: row-major over the variables
            log_pi = (log_pi.unsqueeze(-1) + logits.log_softmax(-1).unsqueeze(-2)).flatten(-2)
        return log_pi.reshape((*batch, -1))

    def _masks(self, state: Values, t: int) -> list[Tensor]:
        """Return which values of each action variable the world's prior allows, ``[N, A_i]``, as in training."""
        world, variables = self.encoding.spec.world, self.encoding.spec.variables
        actions = variables.action_space
        assert actions is not None
        if variables.spaces is None:
            log_prior = prior_at(world, variables, state, t).reshape(-1, actions.size)
        else:
            states, prior = variables.spaces[0], enumerated(world.act, *variables.spaces, t, torch.float64)
            log_prior = prior[states.join(states.unpack(state)).reshape(-1)]
        return list(allowed_values(log_prior > -torch.inf, actions).split(actions.sizes, -1))

    @torch.no_grad()
    def _gaussian(self, state: Values) -> dict[str, Any]:
        """Return the distribution of each continuous action variable."""
        batch, seen = self._seen(state)
        squashed = _kind(self.model) in SQUASHED
        if squashed:
            mean, log_deviation, _ = self.model.actor.get_action_dist_params(seen)
        else:
            normal = self.model.policy.get_distribution(seen).distribution
            mean, log_deviation = normal.mean, normal.stddev.log()
        flat = [x.cpu().expand(mean.shape).reshape((*batch, -1)) for x in (mean, log_deviation)]
        parts = [self.encoding.split(x) for x in (*flat, self.encoding.low, self.encoding.high)]
        law = _squashed if squashed else _clipped
        shapes = {variable.name: variable.shape for variable in self.encoding.spec.variables.actions}
        return {name: law(len(shape), *(part[name] for part in parts)) for name, shape in shapes.items()}

    def _seen(self, state: Values) -> tuple[torch.Size, Tensor]:
        """Return the shape of a batch of states, and what the model sees of them, ``[N]`` or ``[N, F]``."""
        space = self.encoding.spec.variables.state_space
        if self.asked is not None and space is not None:
            state = space.pack(space.split(self.asked[space.join(space.unpack(state))]))
        seen = self.encoding.observe(state)
        width = self.encoding.observation_space.shape
        batch = seen.shape[: seen.dim() - len(width)]
        seen = seen.reshape((-1, *width))
        normalised = self.model.get_vec_normalize_env()
        if normalised is not None:
            seen = torch.as_tensor(normalised.normalize_obs(seen.numpy()))
        self.model.policy.set_training_mode(False)
        return batch, seen.to(self.model.device)


def _masked(logits: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, logits, -torch.inf)


class Clipped(dist.Normal):
    """A Gaussian whose draws are clipped into an interval, as Stable-Baselines3 clips PPO's and A2C's.

    Its log-density is the Gaussian's inside and +inf at the ends, where a point mass lies: against a prior with a
    density the KL of such a policy is infinite, its ELBO -inf (and Pyro warns of +inf).

    Shapes: ``low`` and ``high`` broadcast to the batch.
    """

    has_rsample = False

    def __init__(self, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> None:
        self.low, self.high = low, high
        super().__init__(loc, scale, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Clipped":
        """Expand to a larger batch shape."""
        return Clipped(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.low, self.high)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw, and clip."""
        inside: Tensor = super().sample(torch.Size(sample_shape))  # type: ignore[no-untyped-call]
        return torch.minimum(torch.maximum(inside, self.low), self.high)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density, nats; -inf outside the interval."""
        density: Tensor = super().log_prob(value)  # type: ignore[no-untyped-call]
        density = torch.where((value == self.low) | (value == self.high), torch.inf, density)
        return torch.where((value < self.low) | (value > self.high), -torch.inf, density)


def _clipped(event_dim: int, loc: Tensor, log_scale: Tensor, low: Tensor, high: Tensor) -> Any:
    return dist.Independent(Clipped(loc, log_scale.exp(), low, high), event_dim)


def _squashed(event_dim: int, loc: Tensor, log_scale: Tensor, low: Tensor, high: Tensor) -> Any:
    return tanh_gaussian(low, high, loc, log_scale - math.log(0.9), event_dim)  # which counts deviations in 0.9


def from_sb3(model: Any, world_or_env: Any = None) -> Policy:
    """Read a model of Stable-Baselines3 or sb3-contrib as a policy of the world that it was trained on.

    PPO, A2C, TRPO and MaskablePPO: the distribution that they sample from, a product over several action variables; the
    masks are the zeros of the world's prior. Stable-Baselines3 clips continuous actions, so the ends of the interval
    have positive probability: samples and returns are right, but the KL to a prior with a density is infinite. DQN, and
    QR-DQN by the mean of its quantiles: the greedy policy, the first of equal actions, without the exploration of
    training. SAC, TQC and CrossQ: their tanh-Gaussian, in the world's units.

    The model was trained through ``to_gymnasium``, or on a Gymnasium environment that ``from_gymnasium`` can import.
    The additional state "ended" needs no actions.

    The model reads the state and not the time, so the policy is the same at all times. A ``VecNormalize`` around the
    model's environment is applied as in training (a model loaded from a file needs it again: ``model.set_env``). The
    policy reads the model's current weights: it changes when the model is trained further.

    Args:
        model: a trained model of these kinds.
        world_or_env: the world, or its environment; may be left out if the model still has its environment.

    Raises:
        WorldError: Stable-Baselines3 is not installed; the model is of another kind (TD3 and DDPG are deterministic,
            RecurrentPPO has a memory), explores by gSDE, was trained through a wrapper, or has no world; or its spaces
            are not the world's.

    Source: Raffin et al. 2021, Stable-Baselines3: reliable reinforcement learning implementations.
    """
    if not _kind(model):
        why = next((f": {words}" for name, words in REFUSED.items() if _is(model, name)), "")
        raise fault(
            "from_sb3, model", f"a {type(model).__name__}{why}", f"a model of Stable-Baselines3: {', '.join(KINDS)}"
        )
    if getattr(model, "use_sde", False):
        seen = "use_sde=True, whose noise depends on earlier steps"
        raise fault("from_sb3, model", seen, "a model whose actions depend on the state alone: use_sde=False")
    _require_no_wrapper(model)
    encoding = encode(_world(model, world_or_env), "from_sb3")
    plain = _plain(encoding)
    for name in ("observation_space", "action_space"):
        of_model, of_world = getattr(model, name), getattr(encoding, name)
        if of_model != of_world and (name == "action_space" or plain is None or of_model != plain):
            expected = f"the world's, {of_world}: train on cai.to_gymnasium(world)"
            raise fault(f"from_sb3, {name}", f"the model's {of_model}", expected)
    asked = None if model.observation_space == encoding.observation_space else replace_terminated(_ended(encoding))
    return StableBaselinesPolicy(model, encoding, asked)


def _ended(encoding: Encoding) -> Tensor | None:
    return None if encoding.spec.variables.state_space is None else ended_states(encoding.spec)


def _plain(encoding: Encoding) -> Any:
    """Return the observation space without the ended states, where they are the last; None where they are not."""
    ended = _ended(encoding)
    if ended is None or not isinstance(encoding.observation_space, gymnasium.spaces.Discrete):
        return None
    living = len(ended) - int(ended.sum())
    return gymnasium.spaces.Discrete(living) if living and not bool(ended[:living].any()) else None


def _kind(model: Any) -> str:
    """Name the algorithm of a model, or return "" for anything else."""
    return next((kind for kind in KINDS if _is(model, kind)), "")


def _is(model: Any, kind: str) -> bool:
    """Return whether a model is of a kind of Stable-Baselines3 or sb3-contrib."""
    try:
        import stable_baselines3
    except ImportError as error:
        expected = "the extra: pip install 'cai[sb3]'"
        raise fault("from_sb3", f"Stable-Baselines3 cannot be imported ({error})", expected) from error
    contrib = sys.modules.get("sb3_contrib")  # whose models are made by it
    known = [kind_ for module in (stable_baselines3, contrib) if (kind_ := getattr(module, kind, None)) is not None]
    return isinstance(model, tuple(known))


def _require_no_wrapper(model: Any) -> None:
    """Raise where a wrapper stands between the model and its environment that changes what either says."""
    vectorised = model.get_env()
    for kind in (gymnasium.ObservationWrapper, gymnasium.ActionWrapper):
        if vectorised is not None and any(vectorised.env_is_wrapped(kind)):
            seen = f"an {kind.__name__} around the environment, which the policy cannot take into account"
            raise fault("from_sb3, model", seen, "to_gymnasium(world) as it is (VecNormalize is known)")


def _world(model: Any, world: Any) -> Any:
    """Return the world that was given, or that of the model's own environment."""
    if world is None and model.get_env() is not None:
        world = model.get_env().get_attr("unwrapped")[0]
    if world is None:
        expected = "the world that it was trained on: from_sb3(model, world)"
        raise fault("from_sb3, world", "none given, and a model without its environment", expected)
    if not isinstance(world, gymnasium.Env):
        return world
    if not isinstance(world.unwrapped, WorldEnvironment):
        seen = f"a model trained on {type(world.unwrapped).__name__}, and no world beside it"
        expected = "from_sb3(model, world), with the world that cai.from_gymnasium makes of that environment"
        raise fault("from_sb3, world", seen, expected)
    return world.unwrapped.world
