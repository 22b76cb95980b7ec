"""The columns of comparisons on a world of texts: acceptance, and the KL and the entropy beside learners, too."""

from dataclasses import replace

from cai.compile.table_model import Tables
from cai.evaluation.columns import COLUMNS, Column
from cai.evaluation.evaluation import Evaluation


def acceptance(evaluation: Evaluation) -> float | None:
    """Return the probability that the end of a text pays more than 0; None where no end does.

    The end is the end token, or the text's length T.
    """
    part, known = evaluation.parts[0], evaluation.success
    if not isinstance(part.model, Tables) or not bool((part.model.terminal > 0).any()):
        return known
    return (known or 0.0) + float(part.states[-1][part.model.terminal > 0].sum())


ACCEPTANCE = Column(
    "acceptance", "accepted", "acceptance", "probability",
    "The probability that the end of the text pays.", acceptance, optional=True,
)  # fmt: skip
SHOWN = ("kl_to_prior", "entropy_per_step")
"""What is shown beside learners of several seeds, too."""
HIDDEN = ("success", "entropy", "evidence_gap", "start_nats", "action_nats", "luck_nats")
"""What acceptance, entropy per step and policy nats say already: the start and the dynamics of texts are certain."""


def _shown(column: Column) -> Column:
    if column.field in SHOWN:
        return replace(column, shown="always")
    return replace(column, shown="never") if column.field in HIDDEN else column


TEXT_COLUMNS: tuple[Column, ...] = (ACCEPTANCE, *map(_shown, COLUMNS))
"""The columns of a world of texts, in the order in which they are shown."""
