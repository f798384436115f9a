"""What stands in for skipped blocks: the stored residual, or a forecast of it."""

from . import dmd as dmd
from . import fitted as fitted
from . import reuse as reuse
from . import taylor as taylor
