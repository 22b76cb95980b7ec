"""TorchRL's modules as functions (env, seed) -> policy."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import gymnasium
import torch

from cai.errors import fault
from cai.verification.probe import Claim
from cai.verification.reading import Said, logits, probabilities, q_values
from cai.verification.trainers.trainer import Trainer

READ: Mapping[str, Callable[[Any], Said]] = {"action_value": q_values, "logits": logits, "probs": probabilities}
"""What a module's outputs are read as, the first that it has."""


def torchrl(
    script: Callable[[Any, int], Any], *, observation: str = "observation", without: Collection[Claim] = ()
) -> Trainer:
    """Return a script that trains a TorchRL module as ``cai.verify`` takes it; it needs the extra ``[torchrl]``.

    The script gets the environment with observations as vectors, one-hot (``FlattenObservation``; wrap it by
    ``torchrl.envs.GymWrapper``), and a seed. What the module writes beside an observation is read: "action_value" of a
    ``QValueActor`` as Q, else "logits" or "probs" of a ``ProbabilisticActor``.

    Args:
        script: a function (env, seed) -> ``TensorDictModule``.
        observation: the key that the module reads, float32, ``[1, F]``.
        without: what the learner does not claim to know of.

    Raises:
        WorldError: TorchRL is not installed, or the module writes none of these.

    Source: Bou et al. 2023, TorchRL: a data-driven decision-making library for PyTorch.
    """
    try:
        from tensordict import TensorDict
    except ImportError as error:
        seen = f"tensordict cannot be imported ({error})"
        raise fault("trainers.torchrl", seen, "the extra: pip install 'cai[torchrl]'") from error

    def train(env: Any, seed: int) -> Said:
        flat = gymnasium.wrappers.FlattenObservation(env)
        module = script(flat, seed)

        def written(obs: Any) -> Any:
            x = torch.as_tensor(flat.observation(obs), dtype=torch.float32).unsqueeze(0)
            with torch.no_grad():
                return module(TensorDict({observation: x}, batch_size=[1]))

        keys = written(flat.reset(seed=seed)[0]).keys()
        key = next((name for name in READ if name in keys), None)
        if key is None:
            raise fault("trainers.torchrl", f"a module that writes {sorted(keys)}", f"one of {', '.join(READ)}")
        return READ[key](lambda obs: written(obs)[key])

    return Trainer(getattr(script, "__name__", "script"), train, frozenset(without))
