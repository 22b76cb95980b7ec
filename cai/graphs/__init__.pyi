from .conditionals import Logistic as Logistic
from .conditionals import NoisyOr as NoisyOr
from .elimination_steps import elimination_trace as elimination_trace
from .independence import entangled as entangled
from .independence import is_independent as is_independent
from .independence import relevant as relevant
from .independence import why_markov as why_markov
