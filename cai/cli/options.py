"""The arguments and options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

from cai.cli import complete, known
from cai.exact.kl.kl_objective import OPTIONS
from cai.learn.names import FORMS

World = Annotated[
    str,
    typer.Argument(
        autocompletion=complete.worlds,
        help="A catalogue name (frozen_lake), a file (my_world.py), file.py:Class, a Gymnasium id (FrozenLake-v1), or "
        "rddl:PROBLEM:INSTANCE of rddlrepository (rddl:SysAdmin_MDP_ippc2011:1).",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        autocompletion=complete.settings,
        help="An option of the world, or of a Gymnasium id, name=value; repeatable.",
    ),
]
Horizon = Annotated[str | None, typer.Option(help="The horizon T, or 'inf' (needs a discount below 1).")]
Discount = Annotated[float | None, typer.Option(help="The probability γ of surviving a step, in (0, 1].")]
Temperature = Annotated[
    list[float] | None,
    typer.Option("--temperature", "-t", help="The temperature α, reward units; repeatable; 1 unless given."),
]
Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        "-r",
        autocompletion=complete.rules,
        help=f"{', '.join(known.rules())} or 'RISK(eta)'; repeatable. Unless given, solve takes POSTERIOR, compare the "
        "first four and the prior (MAP-plan: replan the most probable trajectory at every state).",
    ),
]
Steps = Annotated[int | None, typer.Option(min=0, help="The most updates; 2000 unless given.")]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**32 - 1, help="The seed of all randomness in a fit; 0 unless given.")
]
KINDS = OPTIONS["kl"]
"""The estimates of the KL."""
Learn = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete.several_of((*FORMS, "all")),
        help="Learners to compare over seeds: a comma list such as reinforce,soft_q_learning, or 'all'.",
    ),
]
Estimates = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete.several_of(KINDS),
        help=f"The KL of soft_grpo and soft_ppo: a comma list of {', '.join(KINDS)}. All learners are then soft.",
    ),
]
Seeds = Annotated[int | None, typer.Option(help="How many seeds of each learner; 10 unless given.")]
LearnSteps = Annotated[
    int | None, typer.Option(help="Environment steps of each run; the learner's own number unless given.")
]
Jobs = Annotated[int | None, typer.Option(help="How many runs at once; 1 unless given.")]
Ray = Annotated[
    str | None,
    typer.Option(help="Run on a Ray cluster: 'local' starts one, 'auto' finds the one on this machine, or host:port."),
]
Shards = Annotated[
    Path | None,
    typer.Option(
        help="Divide the states among the processes of torchrun; store the messages in this folder. The same command "
        "goes on after a break. One rule and one temperature."
    ),
]
Form = Annotated[
    str,
    typer.Option(
        autocompletion=complete.forms,
        help="tables, factors (one table for each variable), or auto: the form with fewer operations that fits.",
    ),
]
Observe = Annotated[
    list[str] | None,
    typer.Option(
        "--observe",
        help="Observe a variable at a time, floor_5=3 (by number or name), of a vector position_5=2,-1; repeatable.",
    ),
]
Do = Annotated[
    list[str] | None,
    typer.Option("--do", help="Force a variable at a time, door_2=1, and cut the edges from its parents; repeatable."),
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial",
        help="Find the best policy that sees only observations (a world with observe; VARIATIONAL, HARD).",
    ),
]
Approximate = Annotated[
    bool,
    typer.Option(
        "--approximate",
        help="Approximate what cannot be solved exactly, and say how good the answer is; see --method and --minutes.",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete.methods,
        help="How to approximate, one of cai.approximation.METHODS. Unless given: bounds for a world of finite "
        "variables, iterated_gaussian for one of real variables.",
    ),
]
Minutes = Annotated[
    float | None, typer.Option(help="The minutes that bounds may take; 5 unless given. Ctrl-C ends it before.")
]
Policy = Annotated[
    bool, typer.Option("--policy", help="Also print the policy at t = 0, by the names of states and actions.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write tables, figures and report.html into this folder.")]
