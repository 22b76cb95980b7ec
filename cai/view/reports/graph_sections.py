"""What follows from a world's graph: what matters, what the policy needs to know, and how a backup ties variables."""

import json
from collections.abc import Iterator

import networkx as nx

from cai.graphs.explanation import Explanation
from cai.support.numbers import show
from cai.support.wording import listed
from cai.view.reports.cells import plain_table
from cai.view.reports.pictures import graph_picture
from cai.view.reports.question import asked
from cai.view.reports.sections import Pairs, Part, Request, Section, Words


def independence(request: Request) -> Iterator[Section]:
    """Say what matters, and why the policy reads the state only; draw the graph."""
    found: Explanation = request.each[0]
    parts: list[Part] = [Words(request.about)] if request.about else []
    if request.dag is not None:
        parts.append(graph_picture(request.dag))
    within = f"given the action and the rest of the state, looked at over {found.slices} slices"
    within += "; the terminal reward was left aside" if found.terminal_reward_unseen else ""
    said = {
        "what matters": f"{listed(found.relevant) or 'no state variable'}, {within}",
        "what does not": listed(found.irrelevant),
        "why the policy depends on the state only": found.why_markov or "",
        "tied by the backward message": "; ".join(listed(group) for group in found.entangled),
    }
    parts.append(Pairs(tuple((name, "", "", text) for name, text in said.items() if text)))
    parts += [Words(note, "note") for note in request.notes]
    yield Section("graph-says", "What follows from the graph", tuple(parts), "The graph")


def eliminated(request: Request) -> Iterator[Section]:
    """List the steps of one backup, where the world can be factorised."""
    found: Explanation = request.each[0]
    if found.elimination is None:
        why = f"There is none: the world cannot be factorised ({found.because})."
        yield Section("elimination", "One backup, variable by variable", (Words(why),), "One backup")
        return
    rows = [
        (step.applied, ", ".join(step.summed) or "–", listed(step.scope) or "–", float(step.size))
        for step in found.elimination
    ]
    largest = max(step.size for step in found.elimination)
    words = f"{len(rows)} steps; the largest message has {show(float(largest))} numbers."
    table = plain_table("The steps of one backup", ("multiply by", "sum out", "message over", "numbers"), rows)
    yield Section("elimination", "One backup, variable by variable", (Words(words), table), "One backup")


def graph_question(request: Request) -> Iterator[Section]:
    """Ask what would untie the variables."""
    found: Explanation = request.each[0]
    tied = [group for group in found.entangled if len(group) > 1]
    text = (
        f"The backward message ties {listed(tied[0])}. Which edge would you cut so that it does not?"
        if tied
        else "The backward message ties no two variables. Which edge would you add so that it does?"
    )
    hint = "Follow two variables to a common child: an optimality node or a next state that reads both."
    yield asked(text, "the common children", hint)


def graph_files(request: Request) -> dict[str, str]:
    """Return the graph, and what follows from it, as JSON."""
    found: Explanation = request.each[0]
    files = {"explanation.json": json.dumps(found.plain(), indent=2) + "\n"}
    if request.dag is not None:
        files["graph.json"] = json.dumps(nx.node_link_data(request.dag, edges="edges"), indent=2) + "\n"
    return files
