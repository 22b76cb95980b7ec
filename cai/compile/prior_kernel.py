"""The prior's marginal kernel Σ_a p(a|s) p(s', r|s, a): how far two worlds differ while the prior acts."""

import torch

from cai.compile.table_model import Slice, Tables


def kernel_distance(a: Tables, b: Tables) -> float | None:
    """Return the largest difference between two worlds under the prior; 0 means that log Z is always the same.

    It compares p(s_0), Σ_a p(a|s) p(s', r|s, a) over s, s', r and t, and the terminal reward. None where the worlds
    differ in the number of states, the horizon or the discount.
    """
    if (a.states.size, a.horizon, a.discount) != (b.states.size, b.horizon, b.discount):
        return None
    times = range(a.horizon or 1) if a.timed or b.timed else range(1)
    slices = max((_slice_distance(a.at(t), b.at(t), a.states.size) for t in times), default=0.0)
    terminal = torch.where(a.terminal == b.terminal, 0.0, (a.terminal - b.terminal).abs()).max()
    return max(slices, float((a.log_initial.exp() - b.log_initial.exp()).abs().max()), float(terminal))


def _slice_distance(a: Slice, b: Slice, S: int) -> float:
    keys, weights = [], []
    for slice_, sign in ((a, 1.0), (b, -1.0)):
        weight = (slice_.log_prior.unsqueeze(-1) + slice_.log_prob).exp()
        origin = torch.arange(S).reshape(-1, 1, 1).expand(weight.shape)
        likely = weight > 0
        keys.append(
            torch.stack(
                [origin[likely].double(), slice_.successor[likely].double(), slice_.reward[likely].double()], -1
            )
        )
        weights.append(sign * weight[likely].double())
    unique, where = torch.unique(torch.cat(keys), dim=0, return_inverse=True)
    total = torch.zeros(len(unique), dtype=torch.float64).index_add(0, where, torch.cat(weights))
    return float(total.abs().max())
