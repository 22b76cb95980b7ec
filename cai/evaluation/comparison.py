"""Comparison: policies side by side in one table; a learner's row summarises its seeds."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.model import is_finite
from cai.compile.table_model import Tables
from cai.errors import NO_ANSWER, fault
from cai.evaluation.across_seeds import Curve, learning_curves, normalised_scores, profile_of
from cai.evaluation.columns import Column
from cai.evaluation.evaluation import Evaluation
from cai.evaluation.losses import Place, places_over_seeds, require_ranking
from cai.evaluation.rows import Row, as_csv, as_table, plain, row_of, written
from cai.evaluation.statistics import Profile
from cai.evaluation.subject import Run, Subject
from cai.exact.forms import Compiled
from cai.support.display import in_notebook
from cai.support.files import write_whole
from cai.support.numbers import ROUNDING, finite
from cai.support.wording import meant


@dataclass(frozen=True, repr=False)
class Comparison:
    """Policies side by side on one world at one temperature. A learner has several seeds, summarised in one row.

    Attributes:
        model: the compiled world; None where it cannot be compiled: then only sampled numbers are known.
        temperature: α, reward units.
        subjects: what each row is computed from, by name: one subject for a policy, one for each seed of a learner.
        columns: the columns that these policies have numbers for.
        rows: the numbers.
        elbo_star: ELBO* of VARIATIONAL, nats, or None where it is not finite.
        log_evidence: log Z of POSTERIOR, nats, or None where it is not finite.
        prior_elbo: ELBO of the action prior, nats; None where the world cannot be compiled, or the prior is flat.
        left_out: the policies that have no row, by name, and the reason.
    """

    model: Compiled | None
    temperature: float
    subjects: Mapping[str, tuple[Subject, ...]]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    elbo_star: float | None
    log_evidence: float | None
    prior_elbo: float | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    _repr_html_ = in_notebook

    def __repr__(self) -> str:
        return f"Comparison at temperature {self.temperature:g}\n{self.table()}"

    @property
    def tables(self) -> Tables | None:
        """The tables of the world; None for a world of factors, or one that cannot be compiled."""
        return self.model if isinstance(self.model, Tables) else None

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns of the printed table: fewer where the intervals of learners need the width."""
        wide = any(len(row.seeds) > 1 for row in self.rows)
        fitting = {"always"} if wide else {"always", "single"}
        return tuple(column for column in self.columns if column.shown in fitting)

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """The exact evaluation of each single policy, by name. Those of a learner's seeds are in ``subjects``."""
        single = {name: each[0].evaluation for name, each in self.subjects.items() if len(each) == 1}
        return {name: evaluation for name, evaluation in single.items() if evaluation is not None}

    @cached_property
    def runs(self) -> dict[str, tuple[Run, ...]]:
        """The runs of each learner, by name."""
        runs = {name: tuple(subject.run for subject in each if subject.run) for name, each in self.subjects.items()}
        return {name: each for name, each in runs.items() if each}

    @cached_property
    def curves(self) -> dict[str, dict[str, Curve]]:
        """The learning curves of each learner, by name and by field. A field that no run measured is left out."""
        return {name: learning_curves(each) for name, each in self.runs.items()}

    @cached_property
    def scores(self) -> dict[str, Float[Tensor, " N"]]:
        """(ELBO(π) - ELBO(prior)) / (ELBO* - ELBO(prior)) of each run, by name; empty where it is not defined."""
        if self._without_scores:
            return {}
        each = {name: [subject.evaluation for subject in self.subjects[name]] for name in self.runs}
        elbos = {name: [evaluation.elbo for evaluation in row if evaluation] for name, row in each.items()}
        return {name: normalised_scores(elbo, *self._ends) for name, elbo in elbos.items()}

    @cached_property
    def profiles(self) -> dict[str, Profile]:
        """The fraction of each learner's runs above every normalised score, by name."""
        return {name: profile_of(scores) for name, scores in self.scores.items()}

    @property
    def _ends(self) -> tuple[float, float]:
        assert self.prior_elbo is not None
        assert self.elbo_star is not None
        return self.prior_elbo, self.elbo_star

    @property
    def _without_scores(self) -> str:
        """Say why normalised scores have no meaning; empty where they have."""
        star, prior = self.elbo_star, self.prior_elbo
        if self.model is None:
            return "the world cannot be compiled"
        if prior is None:
            return "the action prior has no ELBO: it is flat, or something was observed exactly"
        if star is None:
            return "ELBO* is not finite"
        if prior == -torch.inf:
            return "ELBO(prior) is -inf, because the prior risks a forbidden reward"
        best = star - prior <= ROUNDING * max(1.0, abs(star))
        return "ELBO* equals ELBO(prior), because the prior is already a best policy" if best else ""

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """Warnings about the learners, in words: what their numbers do not show."""
        if not self.runs:
            return ()
        why = self._without_scores
        remarks = [f"There are no normalised scores and no performance profiles: {why}."] if why else []
        if self.model is None:
            remarks = ["The world cannot be compiled: only sampled numbers are known."]
        return (*remarks, *(text for name in self.runs for text in self._remarks(name)))

    def _remarks(self, name: str) -> Iterator[str]:
        runs, elbo = self.runs[name], self.row(name).estimate("elbo")
        if elbo is not None and elbo.infinite:
            why = (
                "where the policy risks a forbidden reward" if _numbered(self.model) else "where the policy is certain"
            )
            lost = f"of {len(runs)} seeds, {elbo.infinite} end at ELBO -inf, {why}"
            yield f"{name}: {lost}."
        cut = sum(run.stopped == "interrupted" for run in runs)
        if cut:
            yield f"{name}: of {len(runs)} runs, {cut} were interrupted."
        if self.elbo_star is not None and "policy_nats" not in self.curves[name]:
            yield f"{name}: its history has no policy nats; only the final policy was measured."

    def row(self, name: str) -> Row:
        """Return one row by its name.

        Raises:
            WorldError: there is no such row. If the policy was left out, the message says why.
        """
        for row in self.rows:
            if row.name == name:
                return row
        names = [row.name for row in self.rows]
        raise fault(
            f"row '{name}'", self.left_out.get(name, "no such row"), f"one of {', '.join(names)}{meant(name, names)}"
        )

    def mean(self, name: str, field: str) -> Tensor | None:
        """Return a loss by state and time, ``[T, S]`` (``[S]`` for the infinite horizon), in the mean over seeds.

        None where the exact answer behind it is not finite.

        Args:
            name: the name of the row.
            field: "policy_nats", "action_nats", "luck_nats" or "regret_per_state".
        """
        each = self._accounts(name, field)
        return None if each is None else each.mean(0)

    def worst(self, name: str, n: int = 10, by: str = "nats", *, together: bool = False) -> tuple[Place, ...]:
        """Return the n state-times where a policy loses most; of a learner in the mean over its seeds.

        Args:
            name: the name of the row.
            n: how many at most.
            by: "nats", policy nats against VARIATIONAL, or "regret", reward units against HARD.
            together: add up all times of a state, so that each state is one place.

        Raises:
            WorldError: ``n`` is below 1, or ``by`` is something else.
        """
        require_ranking(n, by)
        field = "policy_nats" if by == "nats" else "regret_per_state"
        each = self._accounts(name, field)
        if each is None or self.model is None:
            return ()
        return places_over_seeds(self.model, each, n, by, together=together)

    def _accounts(self, name: str, field: str) -> Tensor | None:
        evaluations = [subject.evaluation for subject in self.subjects[name] if subject.evaluation is not None]
        try:
            return torch.stack([getattr(evaluation, field) for evaluation in evaluations]) if evaluations else None
        except NO_ANSWER:
            return None

    def table(self) -> str:
        """Return the rows as aligned text; for a learner the interquartile mean, and below it its 95 % interval."""
        left_out = (f"left out: {name}, since {why}" for name, why in self.left_out.items())
        return "\n".join([as_table(self.shown, self.rows), *left_out])

    def csv(self) -> str:
        """Return the rows as CSV with a header; an empty cell where the exact answer is not finite."""
        return as_csv(self.columns, self.rows)

    def runs_csv(self) -> str:
        """Return the runs of the learners as CSV, one line a run: the learner, the seed and every number."""
        runs = [(name, subject) for name in self.runs for subject in self.subjects[name]]
        each = [row_of(name, self.temperature, [subject], self.columns) for name, subject in runs]
        heads = [column.field for column in self.columns]
        lines = [[row.name, *row.seeds, *(getattr(row, head) for head in heads)] for row in each]
        return written(["name", "seed", *heads], lines)

    def json(self) -> str:
        """Return all of it as JSON; null where a number is not finite."""
        return json.dumps(self.plain(), indent=2)

    def plain(self) -> dict[str, Any]:
        """Return what ``json`` writes, as dicts, lists and numbers."""
        head = {"temperature": self.temperature, "elbo_star": self.elbo_star, "log_evidence": self.log_evidence}
        more = {"left_out": dict(self.left_out), "remarks": list(self.remarks)}
        rows = [{**plain(row), **(self._learning(row.name) if row.seeds else {})} for row in self.rows]
        return {**finite(head), **{name: value for name, value in more.items() if value}, "rows": rows}

    def _learning(self, name: str) -> dict[str, Any]:
        curves = {field: _columns(curve) for field, curve in self.curves[name].items()}
        scores = finite(self.scores[name].tolist()) if name in self.scores else None
        profile = _columns(self.profiles[name]) if name in self.profiles else None
        places = [finite(vars(place)) for place in self.worst(name)]
        return {"curves": curves, "scores": scores, "profile": profile, "worst": places}

    def save(self, folder: str | Path) -> Path:
        """Write ``comparison.csv``, ``comparison.json`` and (with learners) ``runs.csv`` to the folder; all or none."""
        write_whole(Path(folder), self.files())
        return Path(folder)

    def files(self) -> dict[str, bytes]:
        """Return what ``save`` writes, by file name."""
        texts = {"comparison.csv": self.csv(), "comparison.json": self.json() + "\n"}
        texts |= {"runs.csv": self.runs_csv()} if self.runs else {}
        return {name: text.encode() for name, text in texts.items()}


def _numbered(model: Compiled | None) -> bool:
    return model is None or is_finite(model)


def _columns(curve: Curve | Profile) -> dict[str, Any]:
    return {name: finite(value.tolist()) if isinstance(value, Tensor) else value for name, value in vars(curve).items()}
