"""Displays of results on worlds of real states in a notebook: equations, tubes, the phase portrait, gains."""

from typing import Any

from matplotlib.figure import Figure

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import Gaussian
from cai.evaluation.evaluation import Evaluation
from cai.exact.messages import Messages
from cai.policies.gaussian_action import GaussianAction
from cai.view.blocks import block, heading, line, table
from cai.view.panel_rows import Panels
from cai.view.portrait import phase_portrait
from cai.view.readings import name_of
from cai.view.system_words import equations, moments_table, size_words
from cai.view.tube_figure import tubes

MOST = 4
"""Coordinates of state and action, a tube each, that are drawn without being asked for."""
LONG = 2000
"""Times up to which tubes are drawn without being asked for."""
LARGE = 12
"""Coordinates of the state up to which a system is written out."""


def real_seen(result: Messages | Evaluation) -> str:
    """Show where the state is over time and how the action deviates; without a last time, the policy alone."""
    model: Any = result.model
    if model.horizon is None or model.horizon > LONG:
        return gaussian_action(result.policy.at(0)) if isinstance(result, Messages) else ""
    space, name = model.states, name_of(result)
    shown = [*space.labels[:MOST], *model.actions.labels[: max(1, MOST - space.dimension)]]
    drawn: dict[str, Figure] = {label: tubes({name: result}, label, title=label) for label in shown}
    if space.dimension > 1:
        drawn["portrait"] = phase_portrait(result)
    return Panels(drawn)._repr_html_()


def system(model: LinearGaussian) -> str:
    """Show a system as equations; of a batch or a large one the sizes alone."""
    if model.batch_shape or model.states.dimension > LARGE:
        return block(heading(repr(model)))
    rows = [list(pair) for pair in equations(model)]
    note = [line("At t = 0: the slices differ over time.")] if model.timed else []
    return block(heading(f"LinearGaussian: {size_words(model)}"), table(["what", "is"], rows, 2), *note)


def gaussian(measure: Gaussian) -> str | None:
    """Show mean, deviation and correlations by the number of the coordinate."""
    if measure.mean.dim() > 1 or measure.mean.shape[-1] > LARGE:
        return None
    heads, *rows = moments_table(measure, tuple(map(str, range(measure.mean.shape[-1]))))
    mass = float(measure.mass)
    return block(heading("Gaussian" + ("" if mass == 1 else f" of mass {mass:.4g}")), table(heads, rows))


def gaussian_action(action: GaussianAction) -> str:
    """Show the action of a policy at one time."""
    heads, *rows = action.table
    return block(heading(action.head), table(heads, rows), *(line(note) for note in action.notes))
