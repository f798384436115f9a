"""Cache strategies: skip a denoiser's blocks at steps where little changes, and reuse or predict their features.

A strategy is signal (what is watched) x criterion (when to reuse) x predictor (what replaces the skipped blocks) x
window (at which steps it may act). Each part is registered under its name and chosen in YAML. `attach_strategy` puts a
strategy on a pipeline's denoisers for one generation; `engine.Engine.decide` decides at each step whether to compute or
reuse; `interfaces` says what a part of one's own implements. Importing this package imports no torch.
"""

from . import criteria as criteria
from . import predictors as predictors
from . import signals as signals
from . import strategies as strategies
from .attach import diffusers_hooks as diffusers_hooks
from .attach.attach import attach_strategy as attach_strategy
from .evidence import merge_evidence as merge_evidence
from .state import GenerationInfo as GenerationInfo
from .trace import Trace as Trace
