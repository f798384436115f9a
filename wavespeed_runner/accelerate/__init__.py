"""What is applied to a loaded pipeline before it runs: a config group and an `apply_` function each. No torch here."""

from . import adapters as adapters
from . import attention_options as attention_options
from . import compile_options as compile_options
from . import memory as memory
from . import parallel as parallel
from . import quant_options as quant_options
from . import switches as switches
