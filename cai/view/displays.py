"""How each kind of result shows itself in a notebook: a few numbers, and the picture or the table that says most."""

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from matplotlib.figure import Figure

from cai.compile.factor_model import Factors
from cai.compile.linear_model import LinearGaussian
from cai.compile.model import FiniteModel, is_finite
from cai.compile.quadratic import Gaussian
from cai.compile.table_model import Tables
from cai.errors import CaiError
from cai.evaluation.across_seeds import Estimate
from cai.evaluation.columns import Column
from cai.evaluation.comparison import Comparison
from cai.evaluation.evaluation import Evaluation
from cai.evaluation.rows import Cell, Row
from cai.exact.gaussian.gaussian_reasons import GaussianReasons
from cai.exact.messages import Messages
from cai.exact.reasons import Reasons
from cai.exact.rules import POSTERIOR, VARIATIONAL
from cai.learn.result import Learned
from cai.policies.action_probabilities import ActionProbabilities
from cai.policies.affine_gaussian import AffineGaussianPolicy
from cai.policies.gaussian_action import GaussianAction
from cai.policies.policy_table import PolicyTable
from cai.support.numbers import between, brief, rounded, show
from cai.verification.verification import Verification
from cai.view.blocks import block, heading, line, table
from cai.view.graph_figure import graph
from cai.view.map_figures import occupancy_map, value_map
from cai.view.real_displays import gaussian, gaussian_action, real_seen, system
from cai.view.real_readings import is_real
from cai.view.seed_curves import learning_curves
from cai.view.sizes import size_of
from cai.view.vector import svg
from cai.view.world_map import map_figure
from cai.world.dependencies import ModelGraph

STATES = 8
"""States that a table shows where there is no map."""
MOST = 4096
"""Cells up to which a map is drawn without being asked for."""
MANY = 10_000_000
"""Entries of a policy up to which some of it is shown without being asked for."""
NODES = 40
"""Nodes up to which a graph is drawn without being asked for."""


@singledispatch
def html(result: Any) -> str | None:
    """Return a result as HTML for a notebook, None where its text says as much; other kinds register here."""
    return None


@html.register
def _(result: Messages) -> str:
    numbers: dict[str, str] = {}
    if not result.batch_shape:
        numbers["start value"] = f"{show(float(result.value))} reward units"
        if result.rule == POSTERIOR:
            numbers["log Z"] = _nats(lambda: result.log_evidence)
        if result.rule == VARIATIONAL:
            numbers["ELBO*"] = _nats(lambda: result.elbo)
    if result.model.horizon is None:
        numbers["error bound"] = show(result.error_bound)
    head = heading(f"{result.rule} at α = {_alphas(result)}: {size_of(result.model)}")
    return block(head, _numbers(numbers), _seen(result))


@html.register
def _(result: Evaluation) -> str:
    head = heading(f"A policy at α = {show(float(result.temperature))}: {size_of(result.model)}")
    return block(head, line(result.account()), _seen(result))


@html.register
def _(result: Comparison) -> str:
    columns = result.shown
    heads = ["policy", *(f"{column.title}{f', {column.unit}' if column.unit else ''}" for column in columns)]
    rows = [
        [_named(row), *(_shown(row.cells.get(column.field), column, result) for column in columns)]
        for row in result.rows
    ]
    answers = {"log Z": result.log_evidence, "ELBO*": result.elbo_star}
    known = {name: f"{show(nats)} nats" for name, nats in answers.items()} if result.model is not None else {}
    out = [line(f"left out: {name}, since {why}") for name, why in result.left_out.items()]
    scroll = f'<div style="overflow-x: auto" tabindex="0">{table(heads, rows)}</div>'
    return block(heading(f"α = {show(result.temperature)}"), scroll, _numbers(known), *out)


@html.register
def _(result: Learned) -> str:
    last = result.history[-1] if result.history else None
    numbers = {"steps": f"{result.steps:,}", "seed": str(result.seed), "ended by": result.stopped}
    fields = {
        "return": ("stochastic_return", "reward units"),
        "ELBO": ("elbo", "nats"),
        "policy nats": ("policy_nats", ""),
    }
    for name, (field, unit) in fields.items():
        value = getattr(last, field, None)
        if value is not None:
            numbers[name] = f"{show(value)} {unit}".strip()
    what = next(
        (name for name in ("policy_nats", "elbo", "stochastic_return") if getattr(last, name, None) is not None), ""
    )
    drawn = (
        _figure(lambda: learning_curves({result.algorithm: result}, what)) if what and len(result.history) > 2 else ""
    )
    return block(heading(result.algorithm), _numbers(numbers), drawn)


@html.register(Tables)
@html.register(Factors)
def _(result: Tables | Factors) -> str:
    spaces = {"states": result.states, "actions": result.actions}
    rows = [
        [what, name, f"{size:,}", ", ".join(filter(None, (space.value_label(name, n) for n in range(min(size, 8)))))]
        for what, space in spaces.items()
        for name, size in space.named_sizes.items()
    ]
    shown = rows[: 2 * STATES]
    more = line(f"and {len(rows) - len(shown)} more variables") if len(rows) > len(shown) else ""
    words = heading(
        f"{type(result).__name__}: {size_of(result)}" if not getattr(result, "batch_shape", ()) else repr(result)
    )
    return block(words, table(["", "variable", "values", "names"], shown, 4), more, _bare_map(result))


@html.register
def _(result: ModelGraph) -> str | None:
    return _figure(lambda: graph(result)) if 0 < len(result) <= NODES else None


@html.register
def _(result: ActionProbabilities) -> str:
    rows = [[name, f"{p:.4g}"] for name, p in result.likeliest().items()]
    return block(heading(f"t = {result.t}, {result.state}"), table(["action", "probability"], rows))


@html.register
def _(result: PolicyTable) -> str:
    given = "".join(f", {name}={value}" for name, value in result.given.items())
    body = table([*result.variables, "does"], list(result.lines()), len(result.variables) + 1)
    return block(heading(f"t = {result.t}{given}"), body, *(line(note) for note in result.notes))


@html.register(Reasons)
@html.register(GaussianReasons)
def _(result: Reasons | GaussianReasons) -> str:
    heads, *rows = result.table
    return block(heading(result.head), table(heads, rows), *(line(text) for text in result.sentences))


@html.register
def _(result: Verification) -> str:
    heads, *rows = result.lines
    return block(heading(result.summary), table(heads, rows, 3), *map(line, result.remarks))


html.register(LinearGaussian, system)
html.register(Gaussian, gaussian)
html.register(GaussianAction, gaussian_action)
html.register(AffineGaussianPolicy, lambda policy: gaussian_action(policy.at(0)))


def _nats(ask: Any) -> str:
    try:
        return f"{show(float(ask()))} nats"
    except CaiError as error:
        return str(error)


def _alphas(result: Messages) -> str:
    return ", ".join(show(float(alpha)) for alpha in result.temperature.reshape(-1)[:4])


def _numbers(numbers: Mapping[str, str]) -> str:
    return line("; ".join(f"{name} = {value}" for name, value in numbers.items())) if numbers else ""


def _named(row: Row) -> str:
    seeds = len(row.seeds)
    return row.name + (f" ({seeds} seed{'s' * (seeds > 1)})" if seeds else "")


def _shown(cell: Cell, column: Column, comparison: Comparison) -> str:
    """Write a number, over seeds with its interval, what is rounding as 0."""
    if not isinstance(cell, Estimate):
        return cell or "–"
    scale = comparison.log_evidence or comparison.elbo_star if column.unit == "nats" else None
    value = rounded(cell.value, scale) or 0.0
    if len(cell.runs) == 1:
        return f"{brief(value, 4)} ± {brief(cell.error, 2)}" if cell.error else show(value)
    return f"{brief(value, 4)} {between(cell.low, cell.high)}".strip()


def _figure(draw: Any) -> str:
    figure: Figure = draw()
    return svg(figure)


def _seen(result: Messages | Evaluation) -> str:
    """Show values and visits as maps where the world lies in space, else the first states in a table."""
    if getattr(result, "batch_shape", ()) or len(result.parts) > 1:
        return ""
    if is_real(result):
        return real_seen(result)
    model: FiniteModel = result.model
    if not is_finite(model):
        return ""
    if model.layout is not None and len(model.layout.cell) <= MOST:
        try:
            values = [value_map(result)] if isinstance(model, Tables) or isinstance(result, Messages) else []
            return "".join(svg(figure) for figure in [*values, occupancy_map(result)])
        except CaiError as error:
            return line(str(error))
    return _first_states(result) if isinstance(result, Messages) else ""


def _first_states(result: Messages) -> str:
    """Show the likeliest start states: what they are worth, and what is done there."""
    model = result.model
    if model.states.size * model.actions.size > MANY:
        return ""
    start = model.log_initial.exp()
    first = start.argsort(descending=True, stable=True)[:STATES].tolist()
    v = result.v if model.horizon is None else result.v[0]
    probs = result.policy.probs(0)
    rows = [
        [model.states.label(s), show(float(start[s])), show(float(v[s])), model.actions.label(int(probs[s].argmax()))]
        for s in first
    ]
    more = line(f"and {model.states.size - len(rows):,} more states") if model.states.size > len(rows) else ""
    return table(["state", "p(s_0)", "v, reward units", "likeliest action at t = 0"], rows) + more


def _bare_map(result: Tables | Factors) -> str:
    layout = result.layout
    small = layout is not None and len(layout.cell) <= MOST
    return svg(map_figure(layout)) if layout is not None and small else ""
