"""What learners reached: how many runs score above what, and where on the map they still lose."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter
from torch import Tensor

from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.support.numbers import MINUS, ROUNDING, brief, show
from cai.view.heat import shared_norm
from cai.view.learning import looks
from cai.view.maps import cell_inches, draw_map, keys
from cai.view.style import DPI, FAINT, GREY, INK, Margins, amounts, colour_bar, foot_key, hatch_key, panels, plain
from cai.world.spaces import Layout

SHARES = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)
"""What a run may miss of the way from the prior to the best: the ticks of the profiles' axis."""


def performance_profiles(comparison: Comparison) -> Figure:
    """Draw the fraction of each learner's runs above every normalised score, with its bootstrap band.

    Raises:
        WorldError: there are no normalised scores.
    """
    if not comparison.profiles:
        raise fault("performance_profiles", "no normalised scores", "a world with tables whose prior is not the best")
    title = f"Performance profiles, α = {show(comparison.temperature)}"
    how = (
        "The share of runs whose final score is above each: 0 is the prior's ELBO, 1 is ELBO*; the axis stretches "
        "towards 1. Farther right is better, steeper is more reliable. Band: 95 % bootstrap over seeds."
    )
    figure, (axes,) = panels(1, (6.9, 3.5), title, how, Margins(left=0.75, right=2.75, top=1.0, bottom=0.65))
    plain(axes, "share of runs above the score")
    for name, profile in comparison.profiles.items():
        missing, colour, dash = (1 - profile.thresholds).numpy(), *looks(comparison)[name]
        low, high, fraction = (field.numpy() for field in (profile.low, profile.high, profile.fraction))
        axes.fill_between(missing, low, high, step="post", color=colour, alpha=0.13, linewidth=0)
        axes.step(missing, fraction, where="post", color=colour, linestyle=dash, linewidth=1.7)
    _score_axis(axes, torch.cat(list(comparison.scores.values())))
    _medians(axes, comparison)
    return figure


def _score_axis(axes: Axes, scores: Tensor) -> None:
    missing = (1 - scores[scores.isfinite()]).clamp(SHARES[-1], SHARES[0])
    left = min(SHARES[0], 1.5 * float(missing.max())) if bool((scores < 0).any()) else 1.0
    right = max(SHARES[-1], 0.5 * float(missing.min())) if len(missing) else SHARES[-1]
    axes.set_xscale("log")
    axes.set_xlim(left, min(right, 0.1))
    axes.xaxis.set_major_locator(FixedLocator(SHARES))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{1 - share:.6g}".replace("-", MINUS)))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylim(-0.02, 1.03)
    axes.set_xlabel("normalised score (ELBO − ELBO(prior)) / (ELBO* − ELBO(prior))", fontsize=8, color=INK, labelpad=2)
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _medians(axes: Axes, comparison: Comparison) -> None:
    """List the learners at the right, the best first: every curve ends at the foot, so that none can be led to."""
    middle = {name: float(each.sort().values[(len(each) - 1) // 2]) for name, each in comparison.scores.items()}
    box = axes.get_window_extent()
    line, inch = 0.19 * DPI / box.height, DPI / box.width
    names = sorted(middle, key=lambda name: -middle[name])
    axes.text(1 + 0.2 * inch, 1.0, "median score", transform=axes.transAxes, fontsize=8, color=GREY, va="center")
    for n, name in enumerate(names, 1):
        (colour, dash), y = looks(comparison)[name], 1.0 - n * line
        key = [1 + 0.2 * inch, 1 + 0.36 * inch]
        axes.plot(key, [y, y], transform=axes.transAxes, color=colour, linestyle=dash, linewidth=2.2, clip_on=False)
        place: dict[str, Any] = {"transform": axes.transAxes, "va": "center", "parse_math": False}
        text = axes.text(1 + 0.43 * inch, y, name, **place, fontsize=8, color=colour, fontweight="bold")
        after = (text.get_window_extent().x1 - box.x0) / box.width + 0.07 * inch
        axes.text(after, y, f"{middle[name]:.4g}".replace("-", MINUS), **place, fontsize=7.5, color=INK)


def loss_maps(comparison: Comparison) -> Figure:
    """Draw where on the map each learner still loses nats: policy nats, all times together, the mean over its seeds.

    Raises:
        WorldError: the world has no layout, or ELBO* is not finite.
    """
    layout = comparison.tables.layout if comparison.tables is not None else None
    lost = {name: comparison.mean(name, "policy_nats") for name in comparison.runs}
    known = {name: nats for name, nats in lost.items() if nats is not None}
    if layout is None or not known:
        raise fault("loss_maps", "a world without a layout, or without a finite ELBO*", "a map, and nats to draw on it")
    fields = {name: _by_cell(layout, nats if nats.dim() == 1 else nats.sum(0)) for name, nats in known.items()}
    title = f"Where each learner still loses, α = {show(comparison.temperature)}"
    how = (
        "Policy nats of each cell, all times and all its states together, the mean over seeds; one logarithmic scale. "
        "White: next to nothing."
    )
    cell = cell_inches(layout)
    size = (max(1.9, cell * layout.shape[1]), cell * layout.shape[0])
    figure, axes = panels(len(fields), size, title, how, Margins(left=0.2, across=0.45, down=0.45, bottom=0.5))
    norm = shared_norm([field[layout.cell >= 0].numpy() for field in fields.values()], 1e4)
    cmap = amounts("Oranges", 0.62)
    for ax, (name, field) in zip(axes, fields.items(), strict=True):
        grid = draw_map(ax, layout, field, field, cmap, norm, _heading(name, layout, known[name]))
    top = axes[0].get_position().y0
    last = max((ax for ax in axes if ax.get_position().y0 == top), key=lambda ax: ax.get_position().x0)
    colour_bar(last, norm, cmap, "policy nats")
    hatched = any(not bool(field.isfinite().all()) for field in fields.values())
    notes = [key for key in keys(layout, grid) if key.get_label() == "no state"]
    notes += [hatch_key("∞: some seed does what the best policy never does")] if hatched else []
    if notes:
        foot_key(figure, notes)
    return figure


def _heading(name: str, layout: Layout, nats: Tensor) -> str:
    """Name a learner with all the nats that it loses, and with those that the map cannot show."""
    total, away = float(nats.sum()), float(nats[..., layout.cell < 0].sum())
    return f"{name}: {brief(total)} nats" + (f" ({away / total:.0%} off the map)" if away > ROUNDING else "")


def _by_cell(layout: Layout, nats: Tensor) -> Tensor:
    """Add up the states of every cell and give each of them the sum, ``[S]``."""
    placed = layout.cell >= 0
    total = nats.new_zeros(int(np.prod(layout.shape))).index_add(0, layout.cell[placed], nats[placed])
    total = torch.where(total < ROUNDING, 0.0, total)
    return torch.where(placed, total[layout.cell.clamp(min=0)], 0.0)
