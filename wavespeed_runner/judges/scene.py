"""Whether an image of a demo model shows what its caption asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import RunError
from .metric import metric
from .scene_words import SIDE, parse_caption

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _find_no_caption(options: object, prompt: str) -> str:
    try:
        parse_caption(prompt)
    except ValueError:
        return (
            "it reads captions of the demo models' scenes, such as 'a red circle above a blue square on a white "
            "background'"
        )
    return ""


@metric("scene", less_is_better=False, needs_reference=False, smallest=SIDE, check_prompt=_find_no_caption)
def judge_scene(image: NDArray[np.uint8], reference: object, prompt: str) -> float:
    """1 where everything that the caption names is there and nothing else, otherwise 0; see `scene_reader.py`."""
    from .scene_reader import read_scene

    return float(read_scene(_shrink(image), prompt).right)


def _shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image at the size that scenes have; larger ones by means of squares of pixels."""
    import numpy as np

    height, width, _ = image.shape
    if height != width or height % SIDE:
        raise RunError(f"metrics.scene: an image of {width} x {height}; it reads {SIDE} x {SIDE}, and multiples of it")
    factor = height // SIDE
    squares = image.reshape(SIDE, factor, SIDE, factor, 3)
    return np.rint(squares.mean(axis=(1, 3))).astype(np.uint8)
