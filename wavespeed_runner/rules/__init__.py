"""Which settings fit together, as data: the table of rules that `check.py` applies to a configuration.

A rule applies if `when(config, family)` is true. Its texts are formatted with `c` (the configuration) and `f` (the
facts of the model family). Sources are papers, issues, or our own tests.
"""

from .accelerate import SWITCHES
from .adapters_memory import ADAPTERS, MEMORY
from .attention import ATTENTION_BACKENDS
from .attention_cache import ATTENTION
from .basics import VALUES
from .cache import CACHES
from .cache_measures import MEASURES
from .cache_published import PUBLISHED
from .cache_window import WINDOWS
from .compile import COMPILING
from .graph import GRAPHS
from .guidance import GUIDANCE
from .judges import JUDGING
from .measure import MEASURING
from .numerics import NUMERICS
from .parallel import PARALLEL
from .parallel_shares import SHARES
from .prompts import READING
from .quant import QUANT
from .quant_device import QUANT_DEVICES
from .ranks import RANKS
from .rule import Rule, Text, Verdict
from .sampler import SAMPLERS
from .seeds import SEED_VALUES
from .training import TRAINING

__all__ = ["RULES", "Rule", "Text", "Verdict"]

RULES = (
    *VALUES,
    *SEED_VALUES,
    *GRAPHS,
    *GUIDANCE,
    *READING,
    *SAMPLERS,
    *CACHES,
    *WINDOWS,
    *MEASURES,
    *PUBLISHED,
    *ATTENTION,
    *ADAPTERS,
    *TRAINING,
    *SWITCHES,
    *ATTENTION_BACKENDS,
    *MEMORY,
    *QUANT_DEVICES,
    *QUANT,
    *COMPILING,
    *PARALLEL,
    *RANKS,
    *SHARES,
    *MEASURING,
    *JUDGING,
    *NUMERICS,
)
"""In the order in which they are checked: the first bad verdict stops the run."""
