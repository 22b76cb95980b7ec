"""The learners by the short names that the command line uses."""

from collections.abc import Callable

from cai.learn.actor_critic import sac
from cai.learn.fitted import fitted_q, soft_fitted_q
from cai.learn.policy_gradient import reinforce, soft_policy_gradient
from cai.learn.q_functions import q_learning, soft_q_learning
from cai.learn.result import Learned
from cai.support.wording import LEARNERS

_LEARNERS = (reinforce, soft_policy_gradient, q_learning, soft_q_learning, fitted_q, soft_fitted_q, sac)
ALGORITHMS: dict[str, Callable[..., Learned]] = dict(zip(LEARNERS, _LEARNERS, strict=True))
