"""How large images become along a graph: counted before anything is made, because each stage may enlarge them again."""

from __future__ import annotations

from ..config.limits import refuse_more
from ..config.schema import Config
from ..errors import Unfit
from ..inputs.limits import MAX_SIDE
from ..registry import find_implementation
from ..stages.upscale import UpscaleLatentsOptions, UpscaleOptions, round_size
from .graph import SOURCE, Graph


def refuse_large(config: Config, graph: Graph) -> None:
    """Refuses a graph of which a stage enlarges images beyond what one may have.

    Raises:
        Unfit: a side of more than 16384 pixels; names the stage.
        ConfigError: more than `limits.pixels`.
    """
    multiple = find_implementation("model", config.model).size_multiple
    sizes: dict[str, tuple[int, int]] = {SOURCE: (config.width or 1, config.height or 1)}
    for node in graph.nodes.values():  # each comes after its inputs
        options = node.options
        given = [sizes[source] for source in node.inputs.values()]
        own = (getattr(options, "width", None), getattr(options, "height", None))
        given += [(own[0], own[1])] if isinstance(own[0], int) and isinstance(own[1], int) else []
        size = max(given, key=lambda sides: sides[0] * sides[1], default=(1, 1))
        if isinstance(options, UpscaleOptions | UpscaleLatentsOptions):
            size = round_size(options.scale, *size, multiple)
            where = f"graph.stages.{node.name}.options.scale={options.scale}: images of {size[0]} x {size[1]}"
            if max(size) > MAX_SIDE:
                raise Unfit(f"{where}; at most {MAX_SIDE} pixels a side; a smaller scale, or smaller images before it")
            refuse_more("pixels", size[0] * size[1], config.limits.pixels, where)
        sizes[node.name] = size
