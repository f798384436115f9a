"""Cache strategies: signal (what is watched) x criterion (when to reuse) x predictor (what stands in) x window (where).

Each part is registered under its name and chosen in YAML; `attached` puts a strategy on a pipeline's denoisers for one
generation. Importing this package imports no torch.
"""

from .criteria import thresholds as thresholds
from .predictors import dmd as dmd
from .predictors import fitted as fitted
from .predictors import taylor as taylor
from .predictors import reuse as reuse
from .criteria import schedules as schedules
from .signals import block_signals as block_signals
from .signals import sea as sea
from . import strategies as strategies
from .attach import diffusers_hooks as diffusers_hooks
from .attach.attach import attached as attached
from .engine import Run as Run
from .trace import Trace as Trace
from .trace import merged as merged
