"""What is done to a loaded pipeline before it runs, each a config group and an apply function. Imports no torch."""

from . import adapters as adapters
from . import memory as memory
