"""Imports torchao when something is quantized, and not with every model: it takes as long as torch itself.

diffusers and transformers import torchao, where it is installed, with their first model (their quantizers do), and
torchao imports torch's compiler. A run without quantization needs neither.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, reload

from .logging_setup import log_warnings

QUANTIZERS = {
    "diffusers.quantizers.torchao.torchao_quantizer": "quantize_",
    "transformers.quantizers.quantizer_torchao": "flatten_tensor_state_dict",
}
"""Modules that import torchao -> a name that they take from it."""


def postpone_torchao() -> None:
    """Has diffusers and transformers import their quantizers without torchao, unless they have imported them."""
    for name in QUANTIZERS:
        if name not in sys.modules:
            with _hide_torchao():
                import_module(name)


@contextmanager
def _hide_torchao() -> Iterator[None]:
    """Within it diffusers and transformers take torchao for not installed."""
    import transformers.utils as transformers_utils
    from diffusers.utils import import_utils as diffusers_utils
    from transformers.utils import import_utils

    available, is_available = diffusers_utils._torchao_available, import_utils.is_torchao_available
    places = (transformers_utils, import_utils)
    diffusers_utils._torchao_available = False
    for place in places:
        place.is_torchao_available = lambda *_: False
    try:
        yield
    finally:
        diffusers_utils._torchao_available = available
        for place in places:
            place.is_torchao_available = is_available


def import_torchao() -> None:
    """Imports torchao, and what diffusers and transformers need of it to load weights that are stored quantized.

    torchao warns of kernels for other machines, and in several ways; that goes to the log file.
    """
    with log_warnings():
        import torchao.quantization  # noqa: F401

        for name, taken in QUANTIZERS.items():
            quantizer = import_module(name)
            if not hasattr(quantizer, taken):
                # The classes that are in use look names up in their module, and find them there from now on.
                reload(quantizer)
