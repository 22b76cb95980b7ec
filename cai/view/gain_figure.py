"""The gains of an affine policy over time: the derivative of the mean action by each coordinate of the state."""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cai.evaluation.evaluation import Evaluation
from cai.exact.messages import Messages
from cai.support.numbers import brief, show
from cai.view.canvas import Room, open_axes, panel
from cai.view.curve_names import Label, name_ends, width_of
from cai.view.map_figures import Scale
from cai.view.policy_looks import look
from cai.view.readings import name_of
from cai.view.real_readings import acting_at, place_of, require_affine, system_of
from cai.view.style import GREY
from cai.view.vector import tell


def gains_over_time(
    result: Messages | Evaluation,
    action: str | None = None,
    *,
    scale: Scale = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the gains of an affine policy, da/ds of each coordinate of the state, over time.

    The number beside a name is the gain at t = 0. Far from the end gains hardly change.

    Args:
        result: what ``cai.solve`` or ``cai.evaluate`` returns, on a linear-Gaussian world.
        action: a coordinate of the action; the first unless given.
        scale: the ends of the vertical axis.
        title: above the panel.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: the policy is not affine, there is no such coordinate, the horizon is infinite, or it is a batch.
    """
    where = "gains_over_time"
    model = system_of(result, where)
    require_affine(result, where)
    i = place_of(model.actions, model.actions.labels[0] if action is None else action, f"{where}, action")
    gains = torch.stack([acting_at(result, t).gain[i] for t in range(model.horizon or 0)])
    name, states = model.actions.labels[i], model.states.labels
    first = gains[0].tolist()
    wide = width_of([(label, brief(gain)) for label, gain in zip(states, first, strict=True)])
    room = Room(left=0.62, right=wide, bottom=0.45)
    ax = panel(ax, (2.5, 1.9), room, title or f"gains of {name}, {name_of(result)}")
    open_axes(ax, "time t")
    ax.axhline(0.0, color=GREY, linewidth=0.6, zorder=1)
    for j in range(len(states)):
        ax.plot(gains[:, j], color=look(j).colour, linestyle=look(j).dash, linewidth=1.6)
    ax.set_xlim(0, max(1, len(gains) - 1))
    if scale is not None:
        ax.set_ylim(*scale)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    labels = [
        Label(float(gains[-1, j]), label, brief(first[j]), look(j).colour, look(j).dash)
        for j, label in enumerate(states)
    ]
    name_ends(ax, labels)
    each = (
        f"per {label} {show(first[j])} at t = 0, {show(float(gains[-1, j]))} at t = {len(gains) - 1}"
        for j, label in enumerate(states)
    )
    return tell(ax, f"Gains of {name} over time, {name_of(result)}. {'; '.join(each)}.", ax.get_ylim())
