"""Many seeds side by side: one process each, as many at a time as there are jobs."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from cai.errors import CaiError, fault
from cai.learn.names import ALGORITHMS
from cai.learn.result import Learned
from cai.progress import Interrupt, bar
