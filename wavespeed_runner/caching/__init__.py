"""Cache strategies: signal (what is watched) x criterion (when to reuse) x predictor (what stands in) x window (where).

Each part is registered under its name and chosen in YAML; `engine.attached` puts a strategy on a denoiser for one
generation. Importing this package imports no torch.
"""

from . import criteria as criteria
from . import predictors as predictors
from . import signals as signals
from . import strategies as strategies
from .engine import attached as attached
from .trace import Trace as Trace
from .trace import merged as merged
