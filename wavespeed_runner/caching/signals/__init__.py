"""Signals: what a cache strategy watches, to tell how much changed since an earlier step."""

from . import block_signals as block_signals
from . import sea as sea
