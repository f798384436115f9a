"""Criteria: when a strategy reuses. Thresholds on a signal's change, or schedules, whose steps are fixed in advance."""

from . import magnitude_ratio as magnitude_ratio
from . import schedules as schedules
from . import step_lists as step_lists
from . import thresholds as thresholds
