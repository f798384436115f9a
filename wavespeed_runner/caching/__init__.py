"""Cache strategies: signal (what is watched) x criterion (when to reuse) x predictor (what stands in) x window (where).

Each part is registered under its name and chosen in YAML; `attached` puts a strategy on a pipeline's denoisers for one
generation. Importing this package imports no torch.
"""

from . import criteria as criteria
from . import predictors as predictors
from . import signals as signals
from . import strategies as strategies
from .attach import diffusers_hooks as diffusers_hooks
from .attach.attach import attached as attached
from .engine import Run as Run
from .evidence import merged as merged
from .trace import Trace as Trace
