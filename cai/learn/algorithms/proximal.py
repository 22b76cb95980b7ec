"""PPO: the policy gradient with a clipped ratio, advantages of a learned value, and many updates on each batch."""

from typing import Any, Literal, Unpack

from cai.exact.kl.kl_objective import KLObjective
from cai.learn.algorithms.policy_gradient import PolicyGradient
from cai.learn.policy_search import PolicyOptions, search_policy
from cai.learn.result import Learned
from cai.learn.settings import require_soft
from cai.world.definition import World
from cai.world.spec import read

GAMMA = 0.99  # where episodes have no horizon and neither the caller nor the world discounts
LONGEST = 128  # steps of each copy, unless the horizon is shorter
STEPS = 1024  # of all copies in an update, unless their number is given


def ppo(
    world: Any,
    *,
    temperature: float | None = None,
    gamma: float | None = None,
    lam: float = 0.95,
    clip: float | None = 0.2,
    epochs: int = 10,
    minibatches: int = 4,
    whiten: bool = True,
    kl: Literal["k1", "k2", "k3", "ratio_k3", "full"] | None = None,
    where: Literal["reward", "loss"] | None = None,
    batch: int | None = None,
    length: int | None = None,
    norm: float | None = 0.5,
    **options: Unpack[PolicyOptions],
) -> Learned:
    """Learn by proximal policy optimisation (Schulman et al. 2017, equation 7):

        maximise  E min(ρ_t Â_t, clip(ρ_t, 1 ± ε) Â_t),    ρ_t = π_θ(a_t|s_t)/π_old(a_t|s_t),    Â of ``GAE(λ)``

    and fit V by least squares to Â_t + V(s_t), apart from the policy. At a temperature each step pays
    ``α log π(a_t|s_t)/p(a_t|s_t)`` out of its reward, the classical form with a reference model (Ziegler et al. 2019),
    so that the optimum is that of the ELBO; or ``α`` times an estimate of the KL is in the loss, where
    the optimum may be another (see ``KLObjective``). After a time limit that is an environment's own V(s) is to come;
    after the horizon of a world nothing is.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment.
        temperature: α > 0, reward units; None for the hard learner.
        gamma: the discount; the world's own unless given, and 0.99 where that is 1 and there is no horizon.
        lam: λ of the advantages (Schulman et al. 2016); at 1 they are the rewards to go less V(s).
        clip: ε; None for no clipping, with one epoch and one minibatch.
        epochs: passes over each batch, for the policy and for V.
        minibatches: updates in each pass.
        whiten: give the advantages of a batch mean 0 and deviation 1.
        kl: the estimate of each step's KL to the prior, as in ``KLObjective``; "k1" unless given. Only at a
            temperature.
        where: "reward" or "loss", where the KL goes; "reward" unless given. Likewise.
        batch: copies of the world; 1,024 over the length that is usual unless given.
        length: steps of each copy in an update; the horizon unless given, and at most 128.
        norm: the largest norm of a gradient; None for any.
        options: of the policy and the training; see ``PolicyOptions``.

    Raises:
        WorldError: the world or an argument is not valid.
    """
    spec = read(world) if isinstance(world, World) and not isinstance(world, type) else None
    horizon, own = (None, 1.0) if spec is None else (spec.horizon, spec.discount)
    if gamma is None and horizon is None and own == 1:
        gamma = GAMMA
    scale: Any = "batch_std" if whiten else "none"
    source = "Schulman et al. 2017"
    kind: Any = "k1" if kl is None else kl
    place: Any = "reward" if where is None else where
    objective = KLObjective(kind, place, "value", scale, length="batch", clip=clip, source=source)
    require_soft("ppo", temperature, kl=kl, where=where)
    usual = min(LONGEST, horizon or LONGEST)
    length = usual if length is None else length
    batch = -(-STEPS // usual) if batch is None else batch
    passes: dict[str, Any] = {"epochs": epochs, "minibatches": minibatches, "critic_epochs": epochs}
    method = PolicyGradient(objective, "ppo", batch, lam=lam, length=length, **passes)
    return search_policy(method, world, options, temperature=temperature, gamma=gamma, norm=norm)
