"""Other people's learners on the probes: ``python -m tests.benchmarks.other_learners [NAME …] [--seeds N]``.

Each is run on a few probes first; give ``--seeds 20`` for the probes on which it failed.
"""

import argparse

import torch

import cai
from tests.benchmarks import cleanrl_like

FEW = ("truncation", "termination", "discount", "entropy-to-go", "entropy", "small-stakes", "masks", "time")
sb3, script = cai.trainers.stable_baselines, cai.trainers.torch_module
BLIND = ("prior", "masks")
LEARNERS = {
    "PPO": (sb3("PPO"), cai.VARIATIONAL),
    "PPO, normalize_advantage=False": (sb3("PPO", normalize_advantage=False), cai.VARIATIONAL),
    "A2C": (sb3("A2C"), cai.VARIATIONAL),
    "MaskablePPO": (sb3("MaskablePPO"), cai.HARD),
    "DQN": (sb3("DQN"), cai.HARD),
    "QRDQN": (sb3("QRDQN"), cai.HARD),
    "CleanRL-style PPO": (script(cleanrl_like.ppo, without=BLIND), cai.VARIATIONAL),
    "CleanRL-style SAC, discrete": (script(cleanrl_like.sac_discrete, without=BLIND), cai.VARIATIONAL),
}


def main() -> None:
    """Print a table for each learner."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("names", nargs="*", default=list(LEARNERS))
    asked.add_argument("--seeds", type=int, default=5)
    asked.add_argument("--probes", nargs="*", default=FEW)
    given = asked.parse_args()
    torch.set_num_threads(1)
    for name in given.names:
        train, rule = LEARNERS[name]
        found = cai.verify(train, rule=rule, probes=given.probes, seeds=given.seeds, progress=False)
        print(f"\n{name}: {found.summary}\n{found.table()}", flush=True)
        for one in found.verdicts:
            if one.verdict not in ("pass", "left out"):
                print(f"    {one.probe}, {one.verdict}: {one.words}", flush=True)


if __name__ == "__main__":
    main()
