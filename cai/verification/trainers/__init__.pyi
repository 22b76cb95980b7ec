from .own import own as own
from .trainer import Trainer as Trainer
