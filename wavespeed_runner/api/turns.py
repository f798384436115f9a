"""One call at a time in a process, whatever thread it comes from.

What a pipeline sets while it computes is in part process-wide: torch's switches, the compiler's folder and limits. Two
pipelines of the same model share their weights. So calls wait for each other, and none changes the bits of another.
The same holds for diffusers' `set_attention_backend`, which also sets the backend of all models of the process that
have none of their own: in a turn it is the one that a run on the command line would have.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import Any

from ..accelerate.compilation import CUDA_GRAPHS
from ..errors import ConfigError, RunError, make_printable

_turn = RLock()


@contextmanager
def take_turn() -> Iterator[None]:
    """Waits until no other thread plans, loads or generates; then the others wait.

    What it raises of ours is clean: the program prints it, or answers a request with it.
    """
    with _turn, _attend_as_a_run_does():
        try:
            yield
        except (ConfigError, RunError) as error:
            if (clean := make_printable(str(error))) == str(error):
                raise
            # Without the cause, whose text is a stranger's too: a program may print the traceback.
            raise type(error)(clean).with_traceback(error.__traceback__) from None


@contextmanager
def _attend_as_a_run_does() -> Iterator[None]:
    """Layers without an attention backend use that of the environment, else torch's, whatever the program has set."""
    dispatch = sys.modules.get("diffusers.models.attention_dispatch")
    if dispatch is None:  # and so nobody has set anything
        yield
        return
    registry = dispatch._AttentionBackendRegistry
    before, _ = registry.get_active_backend()
    registry.set_active_backend(dispatch.AttentionBackendName(dispatch.DIFFUSERS_ATTN_BACKEND))
    try:
        yield
    finally:
        registry.set_active_backend(before)


class OneThread:
    """Refuses calls from a second thread where CUDA graphs are replayed: torch keeps them for the first one alone."""

    def __init__(self, compile_options: Any) -> None:
        """Binds to no thread yet. compile_options: of the config group `compile`."""
        self.mode = getattr(compile_options, "mode", "default")
        self._thread: int | None = None

    def check(self) -> None:
        """Raises RunError in a thread that is not the first one's."""
        if self.mode not in CUDA_GRAPHS:
            return
        self._thread = self._thread or get_ident()
        if self._thread != get_ident():
            raise RunError(
                f"compile.mode={self.mode}: its CUDA graphs belong to the thread of the first call; call it there, or "
                "use compile.mode=max-autotune-no-cudagraphs"
            )
