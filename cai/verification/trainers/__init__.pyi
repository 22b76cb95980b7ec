from .baselines import stable_baselines as stable_baselines
from .own import own as own
from .tensordict_modules import torchrl as torchrl
from .torch_modules import torch_module as torch_module
from .train_file import train_of_file as train_of_file
from .trainer import Trainer as Trainer
