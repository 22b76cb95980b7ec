"""``python -m tests.fuzz --minutes 10``: random worlds, rules, temperatures, conditions and forms against 50 digits.

Every trial has a seed, printed where it finds a fault: ``python -m tests.fuzz --seed 1234 --trials 1`` runs it again.
"""

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter

import torch

from tests.fuzz.trials import Trial


def main() -> int:
    """Run trials until the time is over; return 1 where a fault was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, default=None, help="the first trial's seed (default: from the clock)")
    parser.add_argument("--trials", type=int, default=None, help="stop after so many trials")
    parser.add_argument("--form", default=None, help="try one form only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    first = int(time.time()) % 10**8 * 100 if options.seed is None else options.seed
    print(f"first seed: {first}", flush=True)
    end, counts, faulty = time.monotonic() + 60 * options.minutes, Counter[str](), 0
    seed = first
    while time.monotonic() < end and (options.trials is None or seed < first + options.trials):
        faulty += one(seed, options.form, counts)
        seed += 1
    print(f"{seed - first} trials, {faulty} with faults; first seed {first}")
    for outcome, count in counts.most_common():
        print(f"{count:7}  {outcome}")
    return int(faulty > 0)


def one(seed: int, form: str | None, counts: Counter[str]) -> bool:
    """Run the trial of one seed; print its faults, and tell whether there were any."""
    trial = Trial(seed)
    if form is not None and trial.form != form:
        return False
    try:
        trial.run()
    except Exception:
        trial.faults.append(traceback.format_exc())
    counts["fault" if trial.faults else trial.outcome] += 1
    if trial.faults:
        print(f"seed {seed}: {trial}", *trial.faults[:4], sep="\n    ", flush=True)
    return bool(trial.faults)


if __name__ == "__main__":
    sys.exit(main())
