"""The picture of many horizons: how much of an answer is the choice of T."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cai.evaluation.by_horizon import ByHorizon
from cai.support.numbers import show
from cai.view.style import FAINT, GREY, INK, LINES, Margins, foot_key, panels, plain


def horizon_curves(answers: Sequence[ByHorizon], horizon: int) -> Figure:
    """Draw α log Z and α ELBO* against the horizon, one colour a temperature; on the right, a step's worth of them."""
    title = "How much time is enough?"
    how = (
        "The exact answers if the horizon were another one. Left: α·log Z (dotted) and α·ELBO* (dashed). Right: the "
        "same divided by T; a line that has become flat gains the same with each further step. Grey: this world's T."
    )
    margins = Margins(left=0.8, right=0.25, across=0.85, bottom=1.0, top=1.1)
    figure, axes = panels(2, (4.6, 3.0), title, how, margins)
    for ax, head, per_step in (
        (axes[0], "start value, reward units", False),
        (axes[1], "start value per step, reward units", True),
    ):
        plain(ax, head)
        for n, answer in enumerate(answers):
            for values, dash in ((answer.posterior, ":"), (answer.variational, "--")):
                T = values.value.new_tensor(values.horizons)
                shown = values.value / T if per_step else values.value
                ax.plot(values.horizons, shown, color=LINES[n % 8], linestyle=dash, linewidth=1.6)
        ax.axvline(horizon, color=GREY, linewidth=0.6, zorder=1)
        ax.set_xscale("log")
        ax.set_xlabel("horizon T, steps", fontsize=8, color=INK)
        ax.grid(color=FAINT, linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    colours = [
        Line2D([], [], color=LINES[n % 8], label=f"α = {show(answer.temperature)}") for n, answer in enumerate(answers)
    ]
    rules = [
        Line2D([], [], color="black", linestyle=":", label="log Z"),
        Line2D([], [], color="black", linestyle="--", label="ELBO*"),
    ]
    foot_key(figure, [*colours, *rules])
    return figure
