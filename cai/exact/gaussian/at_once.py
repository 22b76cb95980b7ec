"""v of all times of a linear-Gaussian world, quicker than backup by backup.

The Riccati recursion computes it, and over long horizons the associative scan. Where an integral or a maximum does not
exist both return None. The sweep then runs backup by backup, and raises the error that says where and why.
"""

import torch
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import Quadratic
from cai.exact.gaussian.homogeneous import discounted_sums, homogeneous, matrix_of, normalisers, quadratic_of
from cai.exact.gaussian.riccati import recursion
from cai.exact.gaussian.scan import is_quicker, scan
from cai.exact.rules import Rule


@torch.no_grad()
def at_once(model: LinearGaussian, rule: Rule, alpha: Tensor, terminal: Quadratic) -> Quadratic | None:
    """Return v of all times, reward units, ``[*B, T+1, …]``; None where there is no quicker way, or no finite value.

    Args:
        model: with a finite horizon.
        rule: the rule.
        alpha: temperatures, reward units, ``[*M]``.
        terminal: v_T, ``[*B]``.
    """
    T = model.horizon
    if T is None or model.dtype != torch.float64 or model.requires_grad or alpha.requires_grad:
        return None
    slices = homogeneous(model, rule, alpha)
    if slices is None:
        return None
    last = matrix_of(terminal)
    found = scan(slices, last, T) if is_quicker(slices, T) else None
    found = recursion(slices, last, T) if found is None else found
    more = None if found is None else normalisers(slices, found[1], found[0][1:])
    if found is None or more is None:
        return None
    sums = torch.nn.functional.pad(discounted_sums(more, model.discount).movedim(0, -1), (0, 1))
    P = found[0].movedim(0, -3)
    return quadratic_of(P, sums)
