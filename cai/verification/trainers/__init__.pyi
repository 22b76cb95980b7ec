from .baselines import stable_baselines as stable_baselines
from .own import own as own
from .tensordict_modules import torchrl as torchrl
from .torch_modules import torch_module as torch_module
from .trainer import Trainer as Trainer
