"""Beliefs under a rule: the backup of a world that is seen in part, over the beliefs that can be reached.

    q_t(b,a) = Σ_s b(s) r(s,a) + γ Σ_o p(o|b,a) v_{t+1}(b_ao)
    v_t(b)   = mean over actions of q_t(b,a)          with weights p(a|b)

It holds for rules that average over outcomes (VARIATIONAL, HARD). Their policy may use observations, but not the state.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import ImpossibleError
from cai.exact.diagnose import no_answer
from cai.exact.rules import Rule
from cai.exact.tables.averaged import Averaged, average
from cai.partial.belief_tree import Edges, Layer
from cai.partial.filtering import TableBeliefs


@dataclass(frozen=True, eq=False)
class BeliefOperator:
    """The beliefs of a world under a rule; ``backup`` takes v ``[N_{t+1}]`` to v ``[N_t]``, as of ``Operator``.

    What follows the last beliefs is linear in them: at T, v is the value of each state, ``[S]``.

    Attributes:
        engine: the compiled world, and what is seen of it.
        rule: VARIATIONAL or HARD.
        alpha: the temperature α, reward units.
        root: what may be seen at first.
        layers: the beliefs of each time 0 … T-1.
        tail: what is paid at T, reward units, ``[S]``.
    """

    engine: TableBeliefs
    rule: Rule
    alpha: Float[Tensor, ""]
    root: Edges
    layers: tuple[Layer, ...]
    tail: Float[Tensor, " S"]

    def terminal(self) -> Float[Tensor, " S"]:
        """Return what is paid at T, reward units."""
        return self.tail

    def q(self, t: int, v_next: Tensor) -> Float[Tensor, "N A"]:
        """Return q_t from v_{t+1}, reward units; -inf where forbidden."""
        layer, dynamics = self.layers[t], self._averaged(t)
        if layer.edges is None:
            q = expected(layer.beliefs, dynamics.q(v_next))
        else:
            edges = layer.edges
            following = torch.zeros(layer.log_prior.numel(), dtype=v_next.dtype)
            following = following.index_add(0, edges.source, edges.prob * v_next[edges.child])
            q = expected(layer.beliefs, dynamics.reward)
            q = q + self.engine.model.discount * following.view(layer.log_prior.shape)
        return torch.where(layer.log_prior > -torch.inf, q, -torch.inf)

    def backup(self, t: int, v_next: Tensor, out: Tensor | None = None) -> Float[Tensor, " N"]:
        """Return v_t from v_{t+1}, reward units."""
        v = self.rule.over_actions.value(self.q(t, v_next), self.layers[t].log_prior, self.alpha.reshape(1))
        return v if out is None else out.copy_(v)

    def log_policy(self, t: int, q: Float[Tensor, "N A"]) -> Float[Tensor, "N A"]:
        """Return the rule's log π(a|b) for action values, nats."""
        over, log_prior, alpha = self.rule.over_actions, self.layers[t].log_prior, self.alpha.reshape(1)
        return over.log_weights(q, log_prior, alpha, over.value(q, log_prior, alpha))

    def start(self, v_0: Tensor) -> Float[Tensor, ""]:
        """Return the start value, reward units: ``Σ p(o_0) v_0(b_{o_0})``."""
        return (self.root.prob * v_0[self.root.child]).sum()

    def impossible(self, values: tuple[Tensor, ...]) -> ImpossibleError:
        """Walk down the tree, from -inf to -inf, to a belief where every action risks a forbidden reward at once."""
        doomed, tables = values[0][self.root.child] == -torch.inf, self.engine.model
        n, t, A = int(self.root.child[doomed][0]), 0, tables.actions.size
        while (edges := self.layers[t].edges) is not None:
            layer = self.layers[t]
            now = expected(layer.beliefs[n : n + 1], self._averaged(t).reward)[0]
            ahead = (edges.source // A == n) & (values[t + 1][edges.child] == -torch.inf)
            if bool(((now == -torch.inf) | (layer.log_prior[n] == -torch.inf)).all()) or not bool(ahead.any()):
                break
            n, t = int(edges.child[ahead][0]), t + 1
        states = self.layers[t].beliefs[n].nonzero().flatten()
        named = "; ".join(tables.states.label(int(s)) for s in states[:3]) + ("; …" if len(states) > 3 else "")
        return ImpossibleError(f"{no_answer(self.rule)}, at t = {t} where the states {named} are possible")

    def _averaged(self, t: int) -> Averaged:
        tables = self.engine.model
        return average(tables.at(t), tables.discount) if tables.timed else self._dynamics

    @cached_property
    def _dynamics(self) -> Averaged:
        return average(self.engine.model.at(0), self.engine.model.discount)


def expected(beliefs: Float[Tensor, "N S"], x: Float[Tensor, "S A"]) -> Float[Tensor, "N A"]:
    """Return ``Σ_s b(s) x(s,a)``; -inf where a possible state has it, and nothing of a state that is not possible."""
    barred = x == -torch.inf
    total = beliefs @ torch.where(barred, 0.0, x)
    if not bool(barred.any()):
        return total
    risked = (beliefs > 0).to(x.dtype) @ barred.to(x.dtype) > 0
    return torch.where(risked, -torch.inf, total)
