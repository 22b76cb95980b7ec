"""The stationary policies of single states: values and prices of any size, forbidden actions, references next to 0."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cai.exact.kl.tilts import Tilt, exponential, polynomial, shared


def drawn(seed: int, A: int, size: int, rare: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return G with some -inf, log ref with some -inf, and weights from 0.05 to 1.05, ``[S, A]``."""
    g = torch.Generator().manual_seed(seed)
    G, ref, weight = torch.randn(4, A, generator=g).double() * 10.0**size, *torch.rand(2, 4, A, generator=g).double()
    gone = torch.rand(2, 4, A, generator=g) < 0.2
    ref = torch.where(gone[0], 0.0, ref**rare)
    ref[:, 0] += 1e-3
    return G.masked_fill(gone[1], -torch.inf), (ref / ref.sum(-1, keepdim=True)).log(), weight + 0.05


def force(tilt: Tilt, G: Tensor, price: Tensor, log_pi: Tensor, log_ref: Tensor) -> Tensor:
    log_r = torch.where(log_pi > -600, log_pi - log_ref, 0.0)
    if tilt is shared:
        price = (log_pi.exp() * price).sum(-1, keepdim=True)
    return G - price * (1 - (-log_r).exp() if tilt is polynomial else log_r)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(1, 5), st.integers(-6, 6), st.integers(1, 60), st.integers(-9, 9), st.booleans()
)
def test_a_tilt_makes_what_is_climbed_the_same_for_every_action(
    seed: int, A: int, size: int, rare: int, cold: int, weighted: bool
) -> None:
    G, log_ref, weight = drawn(seed, A, size, rare)
    price = 10.0**cold * (weight if weighted else torch.ones((), dtype=torch.float64))
    for tilt in (exponential, polynomial, *((shared,) if weighted else ())):
        log_pi = tilt(G, price, log_ref)
        pi = log_pi.exp()
        dead = ((-torch.inf == G) | (log_ref == -torch.inf)).all(-1)
        assert torch.allclose(pi.sum(-1), torch.ones(4, dtype=torch.float64), atol=1e-12)
        assert not pi[(log_ref == -torch.inf) | ((-torch.inf == G) & ~dead.unsqueeze(-1))].any()
        assert torch.equal(log_pi[dead], log_ref[dead])
        F = torch.where(log_pi > -600, force(tilt, G, price, log_pi, log_ref), 0.0)
        left = (pi * (F - (pi * F).sum(-1, keepdim=True))).abs()
        largest = torch.where(G.isinf(), 0.0, G.abs()).amax(-1, keepdim=True) + price.max()
        assert (left / largest)[~dead].le(1e-10).all()
