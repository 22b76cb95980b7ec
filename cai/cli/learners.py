"""cai compare --learn: learners over seeds beside the exact answers, in a table, as JSON and on a page."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.cli.fits import read_name
from cai.errors import CaiError, fault

if TYPE_CHECKING:
    from cai.comparison.learners import LearnerComparison
    from cai.learn.result import Learned

SEEDS = 10


@dataclass(frozen=True)
class Lesson:
    """What is to be learned: the learners' names, how many seeds, the steps of a run, how many runs at a time."""

    names: tuple[str, ...]
    seeds: int
    steps: int | None
    jobs: int


def read_learners(text: str | None, *, seeds: int | None, steps: int | None, jobs: int | None) -> Lesson | None:
    """Read what is to be learned, checked before any work is done; None where nothing is.

    Raises:
        WorldError: a name is not known, a number is below 1, or options that belong to --learn stand alone.
    """
    numbers = {"--seeds": seeds, "--learn-steps": steps, "--jobs": jobs}
    if text is None:
        alone = [option for option, value in numbers.items() if value is not None]
        if alone:
            raise fault("compare", f"{', '.join(alone)} without --learn", "--learn and the names of learners")
        return None
    from cai.learn.names import ALGORITHMS

    names = list(ALGORITHMS) if text == "all" else [part.strip() for part in text.split(",")]
    for option, value in numbers.items():
        if value is not None and value < 1:
            raise fault(option, f"{value}", "a whole number, at least 1")
    known = (*ALGORITHMS, "all")
    return Lesson(
        tuple(dict.fromkeys(read_name("--learn", one, known) for one in names)), seeds or SEEDS, steps, jobs or 1
    )


def learners(
    title: str, world: Any, lesson: Lesson, alphas: Sequence[float], out: Path | None, *, as_json: bool
) -> None:
    """Learn at every temperature, compare over seeds, tell, and write the page; Ctrl-C ends all with what there is."""
    from cai.comparison.learners import compare_learners
    from cai.view.terminal import print_learners

    found: list[LearnerComparison] = []
    whole = True
    for alpha in alphas:
        runs, whole = learned_each(world, lesson, alpha, None if out is None else out / "runs")
        if runs:
            found.append(compare_learners(world, runs, temperature=alpha))
            if not as_json:
                print_learners(title, found[-1])
        if not whole:
            break
    if as_json:
        print(json.dumps([json.loads(one.json()) for one in found], indent=2))
    if out is not None and found:
        from cai.view.learners import write_learners

        page = write_learners(found, out, title=title)
        print(f"report: {page.resolve()}", file=sys.stderr if as_json else sys.stdout)
    if not whole:
        raise KeyboardInterrupt


def learned_each(
    world: Any, lesson: Lesson, alpha: float, keep: Path | None
) -> "tuple[dict[str, list[Learned]], bool]":
    """Return the runs of every learner, and whether all were made; one that cannot learn here is left out with a word.

    Where Ctrl-C ended it, the learner under way has the runs that had ended by themselves. Every run is kept in the
    folder ``keep``, if there is one, so that the same command goes on.

    Raises:
        CaiError: no learner can learn here; the reason of the last.
    """
    from cai.learn.seeds import BrokenOff, many

    found: dict[str, list[Learned]] = {}
    left_out: dict[str, CaiError] = {}
    asked: dict[str, Any] = {} if lesson.steps is None else {"steps": lesson.steps}
    if keep is not None:
        asked["folder"] = keep / f"alpha-{alpha!r}-steps-{lesson.steps or 'own'}"
    for name in lesson.names:
        try:
            found[name] = many(name, world, seeds=range(lesson.seeds), temperature=alpha, jobs=lesson.jobs, **asked)
        except CaiError as error:
            left_out[name] = error
        except BrokenOff as broken:
            print(f"cai: {name}: {len(broken.runs)} of {lesson.seeds} runs ended by themselves", file=sys.stderr)
            return found | ({name: list(broken.runs)} if broken.runs else {}), False
        except KeyboardInterrupt:
            return found, False
    if not found:
        raise left_out[lesson.names[-1]]
    for name, reason in left_out.items():
        print(f"cai: {name} left out at α = {alpha:g}: {reason}", file=sys.stderr)
    return found, True
