"""When a strategy reuses: thresholds on a signal, or steps that are fixed beforehand."""

from . import schedules as schedules
from . import thresholds as thresholds
