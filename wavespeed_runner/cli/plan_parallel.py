"""Lines of a plan about context parallelism: what its ranks would send each other, and for how long. No torch."""

from __future__ import annotations

from ..accelerate.parallel.geometry import find_geometry
from ..accelerate.parallel.links import H100, LATENCY, NODE, NODES, UNIFORM, Wiring
from ..accelerate.parallel.options import Layout, find_layout
from ..accelerate.parallel.predict import (
    Messages,
    count_calls,
    count_elements,
    count_step,
    predict_computing,
    predict_sending,
    predict_share,
)
from ..config.environment import resolve_device
from ..config.schema import Config, Dtype
from ..models.family import uses_cfg
from ..registry import find_implementation

ELEMENT_BYTES = {Dtype.float32: 4, Dtype.float16: 2, Dtype.bfloat16: 2}
KINDS = {
    "all_to_all": "all-to-all",
    "ring": "ring",
    "gather": "gather",
    "branches": "guidance branches",
    "decision": "cache decision",
}
"""`Messages.kind` -> in words."""


def describe_ranks(c: Config) -> list[str]:
    """How many processes there are, and what each of them does; nothing for one."""
    layout = find_layout(c.parallel)
    if layout.ranks == 1:
        return []
    shares = {
        "data": "some of the batches each",
        "cfg": "a guidance branch each",
        "ring": f"in {layout.ring} parts of a ring",
        "ulysses": f"heads exchanged by {layout.ulysses}",
    }
    what = [text for name, text in shares.items() if getattr(layout, name) > 1]
    where = "sharing this CPU" if resolve_device(c.device) == "cpu" else "one GPU each"
    return [f"ranks      {layout.ranks} processes, {where}: {', '.join(what)}"]


def describe_messages(c: Config) -> list[str]:
    """Messages a step, and the predicted share of communication; nothing where ranks share no image."""
    layout = find_layout(c.parallel)
    if layout.sequence * layout.cfg == 1:
        return []
    geometry = find_geometry(c.model, width=c.width or 0, height=c.height or 0, num_frames=c.num_frames)
    if geometry is None:
        return [f"messages   not predicted: layers and tokens of model.name={c.model.name} are not known here"]
    branches = count_branches(c)
    decides = c.cache.signal is not None and c.cache.signal.name != "none"
    messages = count_step(geometry, layout, branches=branches, images=c.batch_size, decides=decides)
    size = ELEMENT_BYTES[c.model.dtype]
    computing = predict_computing(geometry, layout, H100, branches=branches, images=c.batch_size)
    tokens = " + ".join(str(count) for count in (geometry.image_tokens, geometry.text_tokens) if count)
    return [
        f"messages   predicted for a step that is computed: {_describe_counts(messages, size)}",
        f"           share of its time, predicted for GPUs: {_describe_shares(messages, size, layout, computing)}",
        f"           assumed: {describe_assumptions()}; {tokens} tokens, shapes of {geometry.source}",
    ]


def count_branches(c: Config) -> int:
    """Guidance branches of a step: 1 or 2."""
    off = find_implementation("model", c.model).unguided_scale
    return 1 + uses_cfg(c.model, c.guidance_scale, off=off)


def describe_assumptions() -> str:
    """What predicted times assume."""
    return (
        f"{H100.sustained / 1e12:.0f} TFLOP/s a GPU ({H100.utilisation:g} of an {H100.name}'s {H100.dtype} peak), "
        f"{LATENCY * 1e6:.0f} us a call, sending while nothing is computed"
    )


def _describe_counts(messages: list[Messages], size: int) -> str:
    kinds = ", ".join(f"{KINDS[message.kind]} {message.calls}" for message in messages)
    megabytes = count_elements(messages) * size / 1e6
    return f"{count_calls(messages)} calls ({kinds}), {megabytes:,.1f} MB sent by a rank"


def _describe_shares(messages: list[Messages], size: int, layout: Layout, computing: float) -> str:
    def share(wiring: Wiring) -> str:
        return f"{wiring.name} {predict_share(predict_sending(messages, size, layout, wiring), computing):.1%}"

    wirings = [*UNIFORM, *([NODES] if layout.ranks > NODE else [])]
    return ", ".join(share(wiring) for wiring in wirings)
