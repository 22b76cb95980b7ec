from .belief_messages import solve as solve
from .filtering import filter_beliefs as filter_beliefs
