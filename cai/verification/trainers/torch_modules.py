"""Torch modules, as scripts in the style of CleanRL make them, as functions (env, seed) -> policy."""

from collections.abc import Callable, Collection
from typing import Any, Literal

import gymnasium
import torch
from torch import Tensor, nn

from cai.errors import fault
from cai.verification.probe import Claim
from cai.verification.reading import Said, logits, q_values
from cai.verification.trainers.trainer import Trainer

Reads = Literal["logits", "q"]


def torch_module(
    script: Callable[[Any, int], nn.Module], *, reads: Reads | None = None, without: Collection[Claim] = ()
) -> Trainer:
    """Return a script that trains a torch module as ``cai.verify`` takes it.

    The script gets the environment with observations as vectors, one-hot (``FlattenObservation``), and a seed. What the
    module knows is read off the first of these that it has: ``get_action_and_value(x, action)``, whose second output
    is log π(a|s); ``actor(x)``, logits; ``q_network(x)``, Q; else the module itself is called, and gives logits, or Q
    with ``reads="q"``. x is float32, ``[N, F]``.

    Args:
        script: a function (env, seed) -> module.
        reads: what the module's own output is: "logits" unless given.
        without: what the learner does not claim to know of.

    Raises:
        WorldError: ``reads`` is neither.

    Source: Huang et al. 2022, CleanRL: high-quality single-file implementations of deep reinforcement learning.
    """
    if reads not in (None, "logits", "q"):
        raise fault("trainers.torch_module, reads", f"{reads!r}", "'logits' or 'q'")

    def train(env: Any, seed: int) -> Said:
        flat = gymnasium.wrappers.FlattenObservation(env)
        module = script(flat, seed)
        if not isinstance(module, nn.Module):
            raise fault("trainers.torch_module", f"a {type(module).__name__} from the script", "a torch.nn.Module")
        return _read(module.eval(), flat, reads)

    return Trainer(getattr(script, "__name__", "script"), train, frozenset(without))


def _read(module: Any, env: Any, reads: Reads | None) -> Said:
    numbers = torch.arange(env.action_space.n)

    def seen(obs: Any) -> Tensor:
        return torch.as_tensor(env.observation(obs), dtype=torch.float32).unsqueeze(0)

    if hasattr(module, "get_action_and_value"):
        return logits(lambda obs: module.get_action_and_value(seen(obs).expand(len(numbers), -1), numbers)[1])
    part = next((getattr(module, name) for name in ("actor", "q_network") if hasattr(module, name)), module)
    is_q = reads == "q" if part is module else not hasattr(module, "actor")
    return q_values(lambda obs: part(seen(obs))) if is_q else logits(lambda obs: part(seen(obs)))
