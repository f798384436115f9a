"""What a strategy watches: each signal says how much it has changed since the last computed step."""

from . import block_signals as block_signals
from . import sea as sea
