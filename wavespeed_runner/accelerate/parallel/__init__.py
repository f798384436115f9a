"""Several ranks for one generation: context parallelism, guidance branches on different ranks, tiles of the decoder.

A rank is a process with its own copy of the weights and its own device. `execution/ranks` starts and ends them.
"""

from . import options as options
