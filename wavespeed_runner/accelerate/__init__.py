"""What is applied to a loaded pipeline before it runs: a config group and an `apply_` function each. No torch here."""

from . import adapters as adapters
from . import memory as memory
