"""Cache strategies: signal (what is watched) x criterion (when to reuse) x predictor (what stands in) x window (where).

Each part is registered under its name and chosen in YAML; `attached` puts a strategy on a pipeline's denoisers for one
generation. Importing this package imports no torch.
"""

from . import criteria as criteria
from . import dmd as dmd
from . import fitted as fitted
from . import forecasts as forecasts
from . import predictors as predictors
from . import schedules as schedules
from . import signals as signals
from . import spectral as spectral
from . import strategies as strategies
from . import wrapped as wrapped
from .attaching import attached as attached
from .engine import Run as Run
from .trace import Trace as Trace
from .trace import merged as merged
