"""cai compare --learn: learners over seeds beside the exact answers, in a table, as JSON and on a page."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.cli.app import print_json
from cai.errors import CaiError, fault
from cai.learn.names import FORMS, at_temperature, forms, learner_of
from cai.support.wording import read_name

if TYPE_CHECKING:
    from cai.evaluation.comparison import Comparison
    from cai.learn.remote import RemoteRun
    from cai.learn.result import Learned

SEEDS = 10


@dataclass(frozen=True)
class Lesson:
    """What is to be learned: the learners' names, how many seeds, a run's steps, runs at a time or a cluster."""

    names: tuple[str, ...]
    seeds: int
    steps: int | None
    jobs: int
    ray: str | None = None


def read_learners(
    text: str | None, *, seeds: int | None, steps: int | None, jobs: int | None, ray: str | None = None
) -> Lesson | None:
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
    if ray is not None and jobs is not None:
        raise fault("compare", "--jobs beside --ray", "one of them: a cluster decides how many run at a time")
    names = list(forms()) if text == "all" else [part.strip() for part in text.split(",")]
    for option, value in numbers.items():
        if value is not None and value < 1:
            raise fault(option, f"{value}", "a whole number, at least 1")
    known = (*FORMS, "all")
    each = tuple(dict.fromkeys(read_name("--learn", one, known) for one in names))
    return Lesson(each, seeds or SEEDS, steps, jobs or 1, ray)


def learners(
    title: str, world: Any, lesson: Lesson, alphas: Sequence[float], out: Path | None, *, as_json: bool
) -> None:
    """Learn at every temperature, compare over seeds, tell, and write the page; Ctrl-C ends all with what there is."""
    from cai.evaluation.compare import compare
    from cai.exact.rules import HARD, POSTERIOR, VARIATIONAL
    from cai.view.terminal import print_comparison

    exact = {"POSTERIOR": POSTERIOR, "VARIATIONAL": VARIATIONAL, "HARD": HARD, "prior": None}
    comparisons: list[Comparison] = []
    whole = True
    for alpha, runs, ended in _learned(world, lesson, alphas, None if out is None else out / "runs"):
        whole = ended
        if runs:
            comparisons.append(compare(world, {**exact, **runs}, temperature=alpha, leave_out=True))
            if not as_json:
                print_comparison(title, comparisons[-1])
    if as_json:
        print_json([one.plain() for one in comparisons])
    if out is not None and comparisons:
        from cai.view.report import report

        page = report(comparisons, out, title=title)
        print(f"report: {page.resolve()}")
    if not whole:
        raise KeyboardInterrupt


Runs = dict[str, "list[Learned]"]


def _learned(
    world: Any, lesson: Lesson, alphas: Sequence[float], keep: Path | None
) -> Iterator[tuple[float, Runs, bool]]:
    """Yield the runs at every temperature, and whether all were made; the last one, where that is not so."""
    if lesson.ray is not None:
        yield from learned_afar(world, lesson, alphas, keep)
        return
    for alpha in alphas:
        runs, whole = learned_each(world, lesson, alpha, keep)
        yield alpha, runs, whole
        if not whole:
            return


def learned_afar(
    world: Any, lesson: Lesson, alphas: Sequence[float], keep: Path | None
) -> Iterator[tuple[float, Runs, bool]]:
    """Make the runs of all temperatures on a cluster at once, then yield them as ``learned_each`` returns them.

    Raises:
        CaiError: no learner can learn at a temperature; the reason of the last.
    """
    asked = [(alpha, name, seed) for alpha in alphas for name in lesson.names for seed in range(lesson.seeds)]
    ended = _ended(world, [_errand(lesson, keep, *one) for one in asked], lesson)
    for alpha in alphas:
        here: dict[str, list[Learned | CaiError]] = {name: [] for name in lesson.names}
        for n in sorted(ended):
            if asked[n][0] == alpha:
                here[asked[n][1]].append(ended[n])
        wrong = {name: [one for one in each if isinstance(one, CaiError)] for name, each in here.items()}
        left_out = {name: each[0] for name, each in wrong.items() if each}
        right = {name: [one for one in each if not isinstance(one, CaiError)] for name, each in here.items()}
        found = {name: each for name, each in right.items() if each and name not in left_out}
        _leave_out(found, left_out, lesson, alpha)
        yield alpha, found, len(ended) == len(asked)


def _ended(world: Any, errands: "Sequence[RemoteRun]", lesson: Lesson) -> "dict[int, Learned | CaiError]":
    """Return what became of every errand, by number; fewer than all after Ctrl-C, with a word."""
    from cai.learn.remote import learned_remotely

    assert lesson.ray is not None
    found: dict[int, Learned | CaiError] = {}
    with suppress(KeyboardInterrupt):
        for n, one in learned_remotely(world, errands, ray=lesson.ray):
            found[n] = one
    if len(found) < len(errands):
        print(f"cai: {len(found)} of {len(errands)} runs ended by themselves", file=sys.stderr)
    return found


def _errand(lesson: Lesson, keep: Path | None, alpha: float, name: str, seed: int) -> "RemoteRun":
    from cai.learn.remote import RemoteRun
    from cai.learn.seeds import checkpoint_of

    place = _place(keep, alpha, lesson)
    checkpoint = None if place is None else checkpoint_of(place, name, seed)
    return RemoteRun(learner_of(name), {**_asked(lesson), **at_temperature(name, alpha), "seed": seed}, checkpoint)


def learned_each(world: Any, lesson: Lesson, alpha: float, keep: Path | None) -> tuple[Runs, bool]:
    """Return the runs of every learner, and whether all were made; one that cannot learn here is left out with a word.

    Where Ctrl-C ended it, the learner under way has the runs that had ended by themselves. Every run is kept in the
    folder ``keep``, if there is one, so that the same command goes on.

    Raises:
        CaiError: no learner can learn here; the reason of the last.
    """
    from cai.learn.seeds import BrokenOff, many

    found: Runs = {}
    left_out: dict[str, CaiError] = {}
    asked = {**_asked(lesson), "folder": _place(keep, alpha, lesson)}
    for name in lesson.names:
        try:
            at = at_temperature(name, alpha)
            found[name] = many(name, world, seeds=range(lesson.seeds), jobs=lesson.jobs, **at, **asked)
        except CaiError as error:
            left_out[name] = error
        except BrokenOff as broken:
            print(f"cai: {name}: {len(broken.runs)} of {lesson.seeds} runs ended by themselves", file=sys.stderr)
            return found | ({name: list(broken.runs)} if broken.runs else {}), False
        except KeyboardInterrupt:
            return found, False
    _leave_out(found, left_out, lesson, alpha)
    return found, True


def _leave_out(found: Runs, left_out: Mapping[str, CaiError], lesson: Lesson, alpha: float) -> None:
    """Say which learners are left out; where all are, raise the reason of the last."""
    if not found and lesson.names[-1] in left_out:
        raise left_out[lesson.names[-1]]
    for name in lesson.names:
        if name in left_out:
            print(f"cai: {name} left out at α = {alpha:g}: {left_out[name]}", file=sys.stderr)


def _asked(lesson: Lesson) -> dict[str, Any]:
    return {} if lesson.steps is None else {"steps": lesson.steps}


def _place(keep: Path | None, alpha: float, lesson: Lesson) -> Path | None:
    return None if keep is None else keep / f"alpha-{alpha!r}-steps-{lesson.steps or 'own'}"
