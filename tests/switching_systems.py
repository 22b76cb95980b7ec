"""Random switching linear-Gaussian systems, as the compiler lays them out, and a small one as a program."""

import pyro
import torch
from pyro.distributions import Categorical, Normal
from torch import Tensor

from cai.compile.linear_model import LinearSlice
from cai.compile.quadratic import ConditionalGaussian, Quadratic
from cai.compile.switching_model import SwitchingLinear
from cai.world.coordinates import Coordinates
from cai.world.mixed import MixedSpace
from cai.world.spaces import Space


def random_switching(
    seed: int,
    *,
    modes: int = 2,
    extra: int = 1,
    n: int = 2,
    m: int = 1,
    k: int = 2,
    T: int = 3,
    discount: float = 1.0,
    timed: bool = False,
    flat: bool = False,
) -> SwitchingLinear:
    """Return a system with switches between all modes, and ``extra`` ones more a mode."""
    g = torch.Generator().manual_seed(seed)

    def r(*shape: int, size: float = 1.0) -> Tensor:
        return size * torch.randn(*shape, generator=g, dtype=torch.float64)

    others = [torch.randint(modes, (extra,), generator=g) for _ in range(modes)]
    target = torch.cat([torch.cat((torch.arange(modes), more)) for more in others])
    source = torch.arange(modes).repeat_interleave(modes + extra)
    L, N = (T, len(source)) if timed else (len(source),), n + m + k
    log_switch = r(*L[:-1], modes, modes + extra).log_softmax(-1).flatten(-2)
    root, drop = r(*L, N, N, size=0.3), r(modes, n, n)
    curved = -(root @ root.mT)
    curved[..., n : n + m, n : n + m] -= float(flat) * torch.eye(m, dtype=torch.float64)
    own = ConditionalGaussian(
        r(modes, m, n, size=0.3), r(modes, m), 0.7 * torch.eye(m, dtype=torch.float64) + r(modes, m, m, size=0.1)
    )
    slices = LinearSlice(
        transition=r(*L, n, N, size=0.4),
        drift=r(*L, n, size=0.3),
        reward=Quadratic(curved, r(*L, N, size=0.3), r(*L)),
        prior=own.each(lambda x: x[source].expand(*L, *x.shape[1:])),
        flat=torch.full((*L, m), flat),
        readout=r(*L, 0, N),
        readout_offset=r(*L, 0),
        log_volume=r(*L),
    )
    reals = Coordinates(("x",), (torch.Size([n]),), True)
    return SwitchingLinear(
        source=source,
        target=target,
        log_switch=log_switch,
        slices=slices,
        log_modes=r(modes).log_softmax(-1),
        start_mean=r(modes, n),
        start_scale=r(modes, n, n, size=0.4),
        terminal=Quadratic(-drop @ drop.mT, r(modes, n), r(modes)),
        horizon=T,
        discount=discount,
        timed=timed,
        states=MixedSpace(Space(("mode",), (modes,), (torch.long,), True), reals, ("mode", "x")),
        actions=Coordinates(("a",), (torch.Size([m]),), False),
        sites=Coordinates((), ()),
    )


class Road:
    """A vehicle on a road that is dry or icy: on ice it answers less to the wheel, and gusts move it more."""

    labels = {"road": ["dry", "icy"]}  # noqa: RUF012 — a world is plain code

    def __init__(self, horizon: int = 4) -> None:
        self.horizon = horizon
        self.chain = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
        self.grip = torch.tensor([1.0, 0.2], dtype=torch.float64)
        self.slide = torch.tensor([0.02, 0.3], dtype=torch.float64)

    def initial(self):  # type: ignore[no-untyped-def]
        road = pyro.sample("road", Categorical(torch.tensor([0.8, 0.2])))
        return {
            "road": road,
            "offset": pyro.sample("offset", Normal(1.0, 0.5)),
            "drift": pyro.sample("drift", Normal(0.0, 0.1)),
        }

    def act(self, state, t):  # type: ignore[no-untyped-def]
        return pyro.sample("steer", Normal(torch.zeros_like(state["offset"]), 1.0))

    def step(self, state, action, t):  # type: ignore[no-untyped-def]
        i = state["road"].long()
        gust = pyro.sample("gust", Categorical(torch.tensor([0.8, 0.2])))
        road = pyro.sample("road", Categorical(self.chain[i]))
        drift = pyro.sample("drift", Normal(state["drift"] + 0.5 * self.grip[i] * action + 0.2 * gust, self.slide[i]))
        offset = pyro.sample("offset", Normal(state["offset"] + 0.5 * state["drift"], 0.01))
        reward = -state["offset"].square() - 0.1 * action.square() - 0.1 * (road == 1)
        return {"road": road, "offset": offset, "drift": drift}, reward
