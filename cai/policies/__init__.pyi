from .affine import AffinePolicy as AffinePolicy
from .affine_gaussian import AffineGaussianPolicy as AffineGaussianPolicy
from .fixed import FixedPolicy as FixedPolicy
from .function import FunctionPolicy as FunctionPolicy
from .mixture import MixturePolicy as MixturePolicy
from .neural import NeuralPolicy as NeuralPolicy
from .tabular import TabularPolicy as TabularPolicy
