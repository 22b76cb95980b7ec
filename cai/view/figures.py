"""The figures of a comparison: each takes the data and returns a ``matplotlib.figure.Figure``, no more."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cai.errors import fault
from cai.evaluation.evaluation import Evaluation
from cai.support.numbers import show
from cai.view.heat import FieldStyle, draw_field, panel_size, row_labels, shared_norm
from cai.view.maps import cell_inches, choices_matter, crowded, draw_arrows, draw_map, keys
from cai.view.scene import PROMISE, Scene
from cai.view.style import Margins, amounts, colour_bar, foot_key, hatch_key, pale, panels, span
from cai.world.spaces import Layout

VALUE = FieldStyle("reward units", "viridis", own_scale=True)
VISITS = FieldStyle("probability", "Blues", own_scale=False)
TOTAL_VISITS = FieldStyle("expected visits", "Blues", own_scale=False)
POLICY_NATS = FieldStyle("nats", "Oranges", own_scale=False)
LUCK_NATS = FieldStyle("nats", "Purples", own_scale=False)


def value_maps(scene: Scene) -> Figure:
    """Draw v_0 on the map, a panel for what POSTERIOR promises and one a policy with its arrows at time 0.

    Raises:
        WorldError: the world has no layout.
    """
    layout, tables = _layout(scene), scene.tables
    first = next(iter(scene.comparison.evaluations.values()))
    policies = {name: evaluation.policy for name, evaluation in scene.comparison.evaluations.items()}
    if PROMISE in scene.v_0:
        policies = {PROMISE: first.posterior.policy, **policies}
    when = "at t = 0" if tables.horizon is not None else "for the infinite horizon"
    lead = f"Value and policy {when}, α = {show(scene.comparison.temperature)}"
    how = (
        "What each policy is worth from each cell under the true dynamics, its KL to the prior paid: "
        "α·ELBO(π) from there, reward units. Each panel has its own scale. Where a fitted policy cannot be at this "
        "time, it keeps its first guess."
    )
    figure, axes = _map_panels(scene, len(policies), lead, how)
    matter, cmap = choices_matter(tables.at(0)), pale("viridis", 0.5)
    hatched = False
    for ax, (name, policy) in zip(axes, policies.items(), strict=True):
        v = scene.v_0[name]
        norm = span(v[layout.cell >= 0].numpy())
        grid = draw_map(ax, layout, v, scene.visits.get(name, torch.zeros_like(v)), cmap, norm, _title(name))
        draw_arrows(ax, layout, grid, policy.probs(0), matter)
        colour_bar(ax, norm, cmap, "reward units")
        hatched |= not bool(v[grid[grid >= 0]].isfinite().all())
    foot_key(figure, [*keys(layout, grid), *([hatch_key("−∞: risks what is forbidden")] if hatched else [])])
    return figure


def visit_maps(scene: Scene) -> Figure:
    """Draw the expected visits of each cell, summed over time, a panel a policy; one logarithmic scale for all.

    Raises:
        WorldError: the world has no layout.
    """
    layout = _layout(scene)
    lead = f"Where each policy goes, α = {show(scene.comparison.temperature)}"
    figure, axes = _map_panels(
        scene,
        len(scene.visits),
        lead,
        "Expected visits of each cell, all times together; white: never. Who ends the episode leaves the map.",
    )
    norm, cmap = shared_norm([v[layout.cell >= 0].numpy() for v in scene.visits.values()], 1e4), amounts("Blues", 0.62)
    for ax, (name, visits) in zip(axes, scene.visits.items(), strict=True):
        draw_map(ax, layout, visits, visits, cmap, norm, name)
    colour_bar(_last_of_first_row(axes), norm, cmap, "expected visits")
    return figure


def value_heat(scene: Scene) -> Figure:
    """Draw v_t(s) over time: what POSTERIOR promises, then what each policy is worth under the true dynamics."""
    how = (
        "The promise is v of POSTERIOR; each policy's own value pays its KL to the prior. Each panel has its own scale."
    )
    fields = {_title(name): v.numpy() for name, v in scene.v.items()}
    return _heat(scene, fields, VALUE, "Value v", how, "−∞: risks what is forbidden")


def occupancy_heat(scene: Scene) -> Figure:
    """Draw the probability to be alive in s at time t, a panel a policy, on one logarithmic scale."""
    evaluations = scene.comparison.evaluations
    fields = {name: _rows(scene, evaluation.occupancy.sum(-1)) for name, evaluation in evaluations.items()}
    style = VISITS if scene.tables.horizon is not None else TOTAL_VISITS
    return _heat(scene, fields, style, "Occupancy", "Where each policy is under the true dynamics.", "")


def policy_nats_heat(scene: Scene) -> Figure:
    """Draw where each policy loses against ELBO*: p(s_t) KL(π ‖ π*) at each time and state, nats.

    Raises:
        ImpossibleError: ELBO* is -inf, so that there is nothing to measure against.
    """
    fields = _fields(scene, lambda evaluation: evaluation.policy_nats)
    how = "Where ELBO* − ELBO(π) is lost: p(s_t) KL(π ‖ π*) against the variational optimum π*."
    return _heat(scene, fields, POLICY_NATS, "Policy nats", how, "∞: does what π* never does")


def luck_nats_heat(scene: Scene) -> Figure:
    """Draw where luck is needed: p(s_t, a_t) KL(p(outcome) ‖ p(outcome|O)) at each time and state, nats.

    Raises:
        ImpossibleError: the evidence is zero.
    """
    fields = _fields(scene, lambda evaluation: evaluation.luck_nats)
    how = (
        "Where the posterior bends the dynamics: Σ p(s_t, a_t) KL(p(outcome) ‖ p(outcome|O)), nats no policy can have."
    )
    return _heat(scene, fields, LUCK_NATS, "Luck nats", how, "∞: an outcome the posterior rules out")


def _heat(scene: Scene, fields: Mapping[str, Any], style: FieldStyle, what: str, how: str, hatched: str) -> Figure:
    """Draw one panel a field, all with the same rows; kinds without a scale of their own share a logarithmic one."""
    labels, finite = row_labels(scene), scene.tables.horizon is not None
    over = "by state and time" if finite else "by state, infinite horizon"
    title = f"{what} {over}, α = {show(scene.comparison.temperature)}" + (f" ({scene.shown})" if scene.shown else "")
    how += "" if style.own_scale or not finite else " White: next to nothing, below the scale."
    room = Margins(left=0.35 + 0.065 * max(map(len, labels)), across=0.75 if style.own_scale else 0.3)
    figure, axes = panels(len(fields), panel_size(scene), title, how, room)
    norm = None if style.own_scale else shared_norm(list(fields.values()), 1e5)
    first_column = min(ax.get_position().x0 for ax in axes)
    any_hatched = False
    for ax, (name, field) in zip(axes, fields.items(), strict=True):
        leftmost = ax.get_position().x0 < first_column + 1e-6
        any_hatched |= not np.isfinite(field).all()
        draw_field(ax, name, field, labels if leftmost else [], style, norm if norm is not None else span(field))
    if norm is not None and finite:
        colour_bar(_last_of_first_row(axes), norm, amounts(style.palette), style.unit)
    if any_hatched and hatched:
        foot_key(figure, [hatch_key(hatched)])
    return figure


def _last_of_first_row(axes: list[Any]) -> Any:
    top = axes[0].get_position().y0
    return max((ax for ax in axes if ax.get_position().y0 == top), key=lambda ax: ax.get_position().x0)


def _fields(scene: Scene, read: Callable[[Evaluation], Tensor]) -> dict[str, Any]:
    return {name: _rows(scene, read(evaluation)) for name, evaluation in scene.comparison.evaluations.items()}


def _rows(scene: Scene, field: Tensor) -> Any:
    return field[..., scene.states].numpy()


def _title(name: str) -> str:
    return "promised by POSTERIOR" if name == PROMISE else name


def _layout(scene: Scene) -> Layout:
    layout = scene.tables.layout
    if layout is None:
        raise fault("a map", "a world without a layout", "a world that says how its states lie in space (cai.Layout)")
    return layout


def _map_panels(scene: Scene, count: int, title: str, how: str) -> tuple[Figure, list[Axes]]:
    layout = _layout(scene)
    if crowded(layout):
        how += " Of several states in one cell, the most visited is shown."
    cell = cell_inches(layout)
    size = (cell * layout.shape[1], cell * layout.shape[0])
    return panels(count, size, title, how, Margins(left=0.2, across=0.85, down=0.42, bottom=0.5))
