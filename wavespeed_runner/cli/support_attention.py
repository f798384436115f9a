"""Writes Markdown tables of the attention backends, and of which of them can compute which model's attention."""

from __future__ import annotations

from ..accelerate.attention_families import find_attention, is_shrunk
from ..accelerate.attention_options import BACKENDS, Backend, Masks
from ..config.paths import CONF
from ..rules.attention_needs import fits_model
from .support_check import Combinations

MASKS = {
    Masks.any: "all",
    Masks.boolean: "boolean",
    Masks.additive: "of numbers",
    Masks.padding: "padding",
    Masks.none: "none",
}
HEAD = """Which kernel computes the denoiser's attention, `attention=NAME` (docs/attention.md). A backend is set on the
model's own processors where they use diffusers' dispatcher; others are wrapped. What is refused here is refused on
every device: the backend cannot take the model's masks, or its heads.
"""


def describe_backends() -> str:
    """A table of the backends and what each needs; docs/attention.md shows it."""
    title = "| attention | what | devices | compute capability | dtypes on a GPU | heads | masks | needs | source |"
    lines = [title, "|---" * 9 + "|"]
    for name, backend in BACKENDS.items():
        what = (CONF / "attention" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        needs = backend.install + (f"; downloads {backend.hub}" if backend.hub else "")
        cells = [
            *(f"`{name}`", what, ", ".join(backend.devices), _describe_capability(backend)),
            *(_describe_dtypes(backend), _describe_heads(backend), MASKS[backend.masks], needs, backend.source),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe_capability(backend: Backend) -> str:
    if backend.capability is None:
        return ""
    if backend.generations:
        return ", ".join(".".join(map(str, each)) for each in backend.generations)
    low = ".".join(map(str, backend.capability))
    high = ".".join(map(str, backend.newest or ()))
    return f"{low} and up" if not high else low if low == high else f"{low} to {high}"


def _describe_heads(backend: Backend) -> str:
    if backend.head_sizes:
        return " or ".join(map(str, backend.head_sizes))
    larger = "".join(f"; {size} on {'.'.join(map(str, place))}" for place, size in backend.largest_heads)
    return f"up to {backend.largest_head}{larger}" if backend.largest_head else ""


def _describe_dtypes(backend: Backend) -> str:
    since = f" ({'.'.join(map(str, backend.bfloat16))} and up)" if backend.bfloat16 else ""
    return ", ".join(f"{name}{since}" if name == "bfloat16" else name for name in backend.dtypes)


def describe_models(options: Combinations) -> str:
    """A table of what each model's attention is like, and the backends that it refuses."""
    lines = [HEAD, "| model | how | masks | heads | refused |", "|---" * 5 + "|"]
    for model in options.models:
        config = options.config(model)
        known = find_attention(config.model)
        if known is None:
            lines.append(f"| `{model}` | tried when it runs | unknown | unknown | |")
            continue
        how = "wrapped" if known.routed else "dispatcher"
        if known.linear:
            how += "; linear self attention stays"
        masks = MASKS[known.masks] + (", with batch_size above 1" if known.only_in_batches else "")
        refused = [name for name, backend in BACKENDS.items() if not fits_model(config, backend)]
        heads = "its own" if is_shrunk(config.model) else ", ".join(map(str, known.heads))
        lines.append(f"| `{model}` | {how} | {masks} | {heads} | {', '.join(f'`{name}`' for name in refused)} |")
    return "\n".join(lines)
