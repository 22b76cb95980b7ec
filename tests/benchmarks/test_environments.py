"""Steps of our environments beside Gymnasium's own, in a process of their own: without type checks."""

import subprocess
import sys


def test_a_step_beside_gymnasiums() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.environments"], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("ratio") == 3
    print("\n" + done.stdout)
