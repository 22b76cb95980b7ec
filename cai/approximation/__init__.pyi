from .approximation import Approximation as Approximation
from .bounds.two_sided import Bounds as Bounds
from .estimate import Estimate as Estimate
from .methods import METHODS as METHODS
from .methods import Method as Method
from .particles import Particles as Particles
from .path_integral import PathIntegral as PathIntegral
from .trajectories import Trajectories as Trajectories
