from .approximation import Approximation as Approximation
from .estimate import Estimate as Estimate
from .methods import METHODS as METHODS
from .methods import Method as Method
from .trajectories import Trajectories as Trajectories
