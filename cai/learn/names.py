"""The learners by the short names that the command line uses."""

from collections.abc import Callable


from cai.learn.policy_gradient import reinforce, soft_policy_gradient
from cai.learn.q_functions import q_learning, soft_q_learning
from cai.learn.result import Learned

ALGORITHMS: dict[str, Callable[..., Learned]] = {
    "reinforce": reinforce,
    "soft_pg": soft_policy_gradient,
    "q": q_learning,
    "soft_q": soft_q_learning,
}
