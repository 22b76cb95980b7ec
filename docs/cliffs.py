"""The picture at the head of the README: ``python docs/cliffs.py`` writes it, for light pages and for dark ones."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

import cai
import cai.view
from cai.view import style

STATIC = Path(__file__).parent / "_static"
INK = {"cliffs.svg": "#1f2933", "cliffs-dark.svg": "#e6e9ec"}
TEMPERATURE = 1.0


def cliffs() -> tuple[Figure, str]:
    """Draw visits on firm and on icy ground, of the posterior and of the best policy; and say what is seen."""
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 4.3))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.84, bottom=0.1, wspace=0.06, hspace=0.55)
    for x, head in ((0.058, "given that all goes well"), (0.537, "the best policy")):
        figure.text(x, 0.95, head, fontsize=12, fontweight="bold", color=style.INK)
    numbers = {}
    for row, (ground, slippery) in enumerate({"firm": False, "icy": True}.items()):
        world = cai.tabulate(cai.from_gymnasium("CliffWalking-v1", horizon=100, is_slippery=slippery))
        posterior = cai.solve(world, cai.POSTERIOR, temperature=TEMPERATURE)
        best = cai.solve(world, cai.VARIATIONAL, temperature=TEMPERATURE)
        log_z, elbo = float(posterior.log_evidence), float(best.elbo)
        numbers[ground] = (log_z, elbo)
        titles = f"{ground} cliff: log Z = {log_z:.1f} nats", f"{ground} cliff: ELBO* = {elbo:.1f} nats"
        for ax, messages, title in zip(axes[row], (posterior, best), titles, strict=True):
            cai.view.occupancy_map(messages, title=title.replace("-", "−"), scale=(1e-2, 10.0), ax=ax)
    (firm_z, firm_elbo), (icy_z, icy_elbo) = numbers["firm"], numbers["icy"]
    words = (
        "Four maps of CliffWalking, darker where an agent is more often. Given that all goes well, the firm and the "
        f"icy cliff look alike: log Z is {firm_z:.1f} and {icy_z:.1f} nats. The best policy walks along the edge of "
        f"the firm one, ELBO* {firm_elbo:.1f} nats, and keeps away from the icy one, ELBO* {icy_elbo:.1f} nats."
    )
    return figure, words


if __name__ == "__main__":
    figure, words = cliffs()
    picture = cai.view.svg(figure, alt=words)
    for name, ink in INK.items():
        (STATIC / name).write_text(picture.replace("currentColor", ink), encoding="utf-8")
