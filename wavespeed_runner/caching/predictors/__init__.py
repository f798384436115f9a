"""Predictors: what replaces the blocks that a cached step skips; the stored residual, or an extrapolation of it."""

from . import dmd as dmd
from . import fitted as fitted
from . import reuse as reuse
from . import step_weights as step_weights
from . import taylor as taylor
