from .belief_messages import solve as solve
from .filtering import filter_beliefs as filter_beliefs
from .gaussian_beliefs import kalman_filter as kalman_filter
from .plans import plan as plan
from .plans import planner as planner
