"""Two or more records, sweeps or machines side by side: what differs in them, and what can be said of the figures."""

from .build import Comparison as Comparison
from .build import compare as compare
