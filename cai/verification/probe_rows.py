"""The parts that probes are made of: outcomes, and the rows of a state."""

from collections.abc import Sequence

from cai.verification.probe import Outcome

Row = dict[str, Sequence[Outcome]]
SOFT = frozenset({"VARIATIONAL", "POSTERIOR"})
AVERAGED = frozenset({"VARIATIONAL", "HARD"})
END = "end"


def ends(reward: float) -> list[Outcome]:
    """Return the one outcome of an action that ends the episode."""
    return [(1.0, END, reward, True)]


def leads(state: str, reward: float = 0.0) -> list[Outcome]:
    """Return the one outcome of an action that leads to a state."""
    return [(1.0, state, reward, False)]


def lottery(*prizes: tuple[float, float]) -> list[Outcome]:
    """Return the outcomes of an action that pays at random and ends the episode; a prize is (probability, reward)."""
    return [(p, END, reward, True) for p, reward in prizes]


def closed(rows: dict[str, Row]) -> dict[str, Row]:
    """Return rows with the end, where nobody acts: a state whose actions end the episode without a reward."""
    actions = dict.fromkeys(action for row in rows.values() for action in row)
    return {**rows, END: {action: ends(0.0) for action in actions}}


def bandit(**rewards: float) -> Row:
    """Return a state each of whose actions pays and ends the episode."""
    return {action: ends(reward) for action, reward in rewards.items()}


def fork(left: Sequence[Outcome], right: Sequence[Outcome], **later: Row) -> dict[str, Row]:
    """Return the rows of a choice between two ways, and of the states that they lead to, closed."""
    return closed({"fork": {"left": left, "right": right}, **later})
