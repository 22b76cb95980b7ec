"""What a map shows, in words, for those who do not see it."""

import torch
from jaxtyping import Float
from torch import Tensor

from cai.evaluation.losses import state_label
from cai.support.numbers import show
from cai.view.maps import Ground

SPELLED = 40
"""Cells up to which what is done is said for each."""


def size_of_map(ground: Ground) -> str:
    """Say how large the map is."""
    rows, columns = ground.layout.shape
    return f"{rows} × {columns} cells"


def extremes(ground: Ground, field: Float[Tensor, " S"], unit: str) -> str:
    """Say the highest and the lowest finite number of the map, where they are, and that of the likeliest start."""
    shown = ground.open[field[ground.open].isfinite()]
    if not len(shown):
        return "No cell has a finite number."
    high, low = (int(shown[at(field[shown])]) for at in (torch.argmax, torch.argmin))
    text = f"Highest: {show(float(field[high]))} {unit} at {state_label(ground.model, high)}"
    text += f"; lowest: {show(float(field[low]))} at {state_label(ground.model, low)}"
    start = int(ground.model.log_initial.argmax())
    if start in shown.tolist() and start not in (high, low):
        text += f"; at the start, {state_label(ground.model, start)}: {show(float(field[start]))}"
    endless = int((field[ground.open] == -torch.inf).sum())
    return f"{text}." + (f" {endless} cells at −∞: a forbidden reward is possible there." if endless else "")


def deeds(ground: Ground, probs: Float[Tensor, "S A"]) -> str:
    """Say the likeliest action of each cell, row by row; of a large map that of the likeliest start alone."""
    actions, matter = ground.model.actions, ground.matter

    def does(state: int) -> str:
        if state < 0 or not bool(matter[state]):
            return "–"
        return actions.label(int(probs[state].argmax())).removeprefix(f"{actions.names[0]}=")

    if ground.grid.size <= SPELLED:
        rows = "; ".join(", ".join(does(state) for state in row) for row in ground.grid.tolist())
        return f" Likeliest actions, row by row: {rows}."
    start = int(ground.model.log_initial.argmax())
    return f" Likeliest action at the start, {state_label(ground.model, start)}: {does(start)}."
