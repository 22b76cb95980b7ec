"""Episodes of a policy on tables: what it does, step by step, and how that is written."""

import torch
from jaxtyping import Int
from torch import Tensor

from cai.compile.table_model import Tables, Trajectories
from cai.errors import fault
from cai.evaluation.evaluation import Evaluation
from cai.exact.sampling import draws


@torch.no_grad()
def episodes(evaluation: Evaluation, n: int, generator: torch.Generator) -> Trajectories:
    """Draw n episodes of a policy: s_0 ~ p(s_0), a_t ~ π_t(·|s_t), s_{t+1} ~ p(·|s_t, a_t).

    Raises:
        WorldError: the world is not one of tables with a finite horizon.
    """
    model = evaluation.model
    if not isinstance(model, Tables) or model.horizon is None:
        raise fault("episodes", "a world without tables or without an end", "tables with a finite horizon")
    s = draws(model.log_initial.unsqueeze(0), n, generator)
    alive, states, actions, rewards, living = torch.ones(n, dtype=torch.bool), [s], [], [], []
    for t in range(model.horizon):
        alive = alive if model.ended is None else alive & ~model.ended[s]
        slice_ = model.at(t)
        a = draws(evaluation.parts[0].log_policy(t)[s], 1, generator)
        k = draws(slice_.log_prob[s, a], 1, generator)
        rewards.append(torch.where(alive, slice_.reward[s, a, k], 0.0))
        s = torch.where(alive, slice_.successor[s, a, k], s)
        survives = torch.rand(n, generator=generator, dtype=torch.float64) < model.discount
        states.append(s)
        actions.append(a)
        living.append(alive)
        alive = alive & survives
    living.append(alive)
    return Trajectories(*(torch.stack(part, 1) for part in (states, actions, rewards, living)))


def written(model: Tables, actions: Int[Tensor, " T"]) -> str:
    """Write actions by their labels, without a space between where each is a single character: a text as it is read."""
    names = model.actions.labels[0] if len(model.actions.names) == 1 and model.actions.labels else None
    labels = [(names and names[int(a)]) or model.actions.label(int(a)) for a in actions]
    close = names is not None and all(name is not None and len(name) == 1 for name in names)
    return ("" if close else " ").join(labels)
