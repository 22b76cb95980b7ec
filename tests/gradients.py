"""Many independent samples of one gradient in a single pass: every particle has parameters of its own."""

import pyro
import torch
from pyro.distributions import Categorical
from pyro.infer import Trace_ELBO, TraceGraph_ELBO
from torch import Tensor, nn

import cai
from tests.worlds import RandomWorld


class Copies(nn.Module):
    """N copies of one table of logits ``[N, T, S, A]``: particle n acts by copy n, so that its gradient lies there."""

    def __init__(self, logits: Tensor, n: int, baseline: Tensor | None = None) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.expand(n, *logits.shape).clone())
        self.baseline = baseline

    def act(self, state: Tensor, t: int) -> Tensor:
        rows = self.logits[torch.arange(len(self.logits)), t, state]
        options = {} if self.baseline is None else {"baseline": {"baseline_value": self.baseline[t][state]}}
        return pyro.sample("a", Categorical(logits=rows), infer=options)


def samples(world: RandomWorld, logits: Tensor, kind: str, n: int, alpha: float, seed: int = 0) -> Tensor:
    """Return n independent samples of ∂ELBO/∂logits, ``[n, T, S, A]``, by one kind of estimator."""
    baseline = None
    if kind == "baseline":  # what is to come from s_t on, exact: the best that a function of the state can know
        policy = cai.policies.TabularPolicy(world)
        policy.logits.data.copy_(logits - policy.log_base)
        baseline = cai.evaluate(world, policy, temperature=alpha).v / alpha
    if kind == "reward-to-go":
        return soft_policy_gradient(world, logits, n, alpha, seed)
    copies = Copies(logits, n, baseline)
    objective = Trace_ELBO if kind == "score function" else TraceGraph_ELBO
    loss = objective(num_particles=n, vectorize_particles=True, max_plate_nesting=0)

    def guide() -> None:
        pyro.module("policy", copies)
        cai.trajectory(world, copies)()

    pyro.set_rng_seed(seed)
    with pyro.get_param_store().scope():
        loss.loss_and_grads(cai.trajectory(world, temperature=alpha), guide)
    assert copies.logits.grad is not None
    return -n * copies.logits.grad  # the loss is the mean of n particles


def soft_policy_gradient(world: RandomWorld, logits: Tensor, n: int, alpha: float, seed: int) -> Tensor:
    """The lecture notes' form, with the prior put back and α not 1, one sample a trajectory.

    ∇log π_t [ r_t/α + Σ_{t'>t} (r_t'/α - log π_t'/p_t') - log π_t/p_t - 1 ]
    """
    copies, T = Copies(logits, n), len(logits)
    model, guide = cai.trajectory(world, temperature=alpha), cai.trajectory(world, copies)
    pyro.set_rng_seed(seed)
    with pyro.plate("n", n):
        drawn = pyro.poutine.trace(guide).get_trace()
        scored = pyro.poutine.trace(pyro.poutine.replay(model, drawn)).get_trace()
    for trace in (drawn, scored):
        trace.compute_log_prob()
    zero = torch.zeros(n)
    cost = [
        scored.nodes[f"O_{t}"]["log_prob"] + scored.nodes[f"a_{t}"]["log_prob"] - drawn.nodes[f"a_{t}"]["log_prob"]
        for t in range(T)
    ]
    last = scored.nodes[f"O_{T}"]["log_prob"] if f"O_{T}" in scored.nodes else zero
    to_go = torch.stack([sum(cost[t:], last) for t in range(T)]).detach() - 1
    alive = torch.stack(
        [drawn.nodes[f"alive_{t}"]["value"] if f"alive_{t}" in drawn.nodes else zero + 1 for t in range(T)]
    )
    log_pi = torch.stack([drawn.nodes[f"a_{t}"]["log_prob"] for t in range(T)])
    (log_pi * to_go * alive).sum().backward()
    assert copies.logits.grad is not None
    return copies.logits.grad
