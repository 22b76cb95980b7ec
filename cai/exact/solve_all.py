"""solve_all: several rules at several temperatures; for a rule without a finite answer it gives the reason."""

from collections.abc import Iterator, Mapping, Sequence

from cai.errors import CaiError, ImpossibleError, NotConvergedError
from cai.exact.diagnose import evidence_explained
from cai.exact.forms import Compiled
from cai.exact.messages import Messages
from cai.exact.rules import Rule
from cai.exact.solve import solve
from cai.support.progress import bar
from cai.world.conditions import NOTHING, Conditions


def solve_all(
    model: Compiled,
    rules: Mapping[str, Rule],
    *,
    temperatures: Sequence[float] = (1.0,),
    conditions: Conditions = NOTHING,
) -> Iterator[tuple[str, float, Messages | CaiError]]:
    """Yield the name of every rule, the temperature, and the messages, or why there are none.

    Args:
        model: the compiled world.
        rules: by name.
        temperatures: α > 0, reward units.
        conditions: those that the world was put under, for the words of an error.

    Raises:
        ImpossibleError, NotConvergedError: no rule has a finite answer at a temperature; the reason of the last.
    """
    for i, alpha in enumerate(temperatures):
        answers: dict[str, Messages | CaiError] = {}
        with bar("solve", len(temperatures) * len(rules), start=i * len(rules)) as tell:
            for name, rule in rules.items():
                tell(i * len(rules) + len(answers), f"{name} at α = {alpha:g}")
                try:
                    with evidence_explained(rule, conditions):
                        answers[name] = solve(model, rule, temperature=alpha)
                except (ImpossibleError, NotConvergedError) as error:
                    answers[name] = error
        if all(isinstance(answer, CaiError) for answer in answers.values()):
            raise next(error for error in reversed(answers.values()) if isinstance(error, CaiError))
        yield from ((name, alpha, answer) for name, answer in answers.items())
