from .sharded import solve as solve
from .store import open_messages as open_messages
