"""Says in a line each what quantization, attention, compilation and the switches did, from the record's evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..metrics.timing import format_bytes
from ..records.record import Record


def describe_engaged(record: Record) -> list[tuple[str, str]]:
    """(config group, what it did) for each group with evidence, in the order in which they are applied.

    Evidence that does not have the expected form (a damaged record, one of a later version) has no line.
    """
    lines = []
    for group, describe in DESCRIBE.items():
        evidence = getattr(record.engaged, group)
        if not evidence:
            continue
        try:
            lines.append((group, describe(evidence)))
        except (KeyError, TypeError, AttributeError, ValueError):
            continue
    return lines


def _describe_quant(evidence: dict[str, Any]) -> str:
    parts = []
    for name, component in evidence["components"].items():
        if "swapped" not in component:
            parts.append(f"{component['weights']} weights of {name}, {component['method']}, as they are stored")
            continue
        swapped, size = component["swapped"]["layers"], component["bytes"]
        total = swapped + component["left"]["layers"]
        stored = {"read": ", read from the store", "written": ", kept in the store"}.get(component.get("store", ""), "")
        parts.append(
            f"{swapped} of {total} linear layers of {name}, {format_bytes(size['before'])} -> "
            f"{format_bytes(size['after'])}{stored}"
        )
    kernels = _list_counts(evidence.get("kernels") or {})
    return f"{evidence['scheme']}: {'; '.join(parts)}" + (f"; ran {kernels}" if kernels else "")


def _describe_attention(evidence: dict[str, Any]) -> str:
    layers = sum(evidence["set"].values()) + sum(evidence["wrapped"].values())
    ran = [f"{kind} attention ran {_list_counts(evidence[kind])}" for kind in ("self", "cross") if evidence.get(kind)]
    left = sum(evidence.get("left", {}).values())
    parts = [f"{layers} layers", *([f"{left} others left"] if left else []), *ran]
    return f"{evidence['backend']}: {'; '.join(parts)}"


def _describe_compile(evidence: dict[str, Any]) -> str:
    if evidence.get("disabled"):
        return "switched off by compile.disable=true: everything ran eagerly"
    modules = ", ".join(f"{sum(classes.values())} modules of {name}" for name, classes in evidence["modules"].items())
    counts = [
        _count(evidence["graphs"], "graph"),
        _count(evidence["graph_breaks"], "graph break"),
        _count(evidence["recompiles"], "recompile"),
        *([_count(evidence["fallbacks"], "fallback")] if evidence["fallbacks"] else []),
        f"{evidence['seconds']:.1f} s of compiling",
    ]
    cached = evidence["cache_hits"]
    counts += [f"{cached} of {cached + evidence['cache_misses']} graphs from the compiler's cache"] if cached else []
    return f"{evidence['backend']}: {modules}: {', '.join(counts)}"


def _describe_parallel(evidence: dict[str, Any]) -> str:
    ranks = evidence.get("ranks") or []
    devices = sorted({str(rank.get("device_name") or rank.get("device")) for rank in ranks})
    parts = [f"{evidence.get('kind', 'data')}: {_count(len(ranks), 'rank')} ({', '.join(devices)})"]
    if divided := (evidence.get("attention") or {}).get("divided"):
        parts.append(f"attention of {_list_counts(divided)} divided")
    if messages := evidence.get("messages"):
        calls = sum(kind["calls_per_step"] for kind in messages.values())
        sent = sum(kind["bytes_per_step"] for kind in messages.values())
        parts.append(f"{calls:.3g} calls and {sent / 1e6:.3g} MB sent a step")
    if peaks := [peak for rank in ranks if (peak := rank.get("peak_memory_bytes"))]:
        parts.append(f"at most {format_bytes(max(peaks))} of memory on a rank")
    if difference := evidence.get("difference"):
        parts.append(f"{difference['alone']:.1e} from one rank alone")
    if tiles := evidence.get("tiles"):
        parts.append(f"tiles of each rank: {', '.join(map(str, tiles['ranks']))}")
    return "; ".join(parts)


def _describe_prompts(evidence: dict[str, Any]) -> str:
    parts = []
    for name, read in evidence.items():
        weights = [f"{weight:.4g} x {text[:30]!r}" for text, weight in read.get("weights", [])]
        shown = f", {', '.join(weights[:4])}{', ...' if len(weights) > 4 else ''}" if weights else ""
        parts.append(
            f"{name.replace('_', ' ')}: {_count(read['tokens'], 'token')} in {_count(read['chunks'], 'chunk')}{shown}"
        )
    return "; ".join(parts)


def _describe_switches(evidence: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {_describe_value(value)}" for name, value in evidence.items())


def _describe_value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_describe_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_describe_value, value))
    return "yes" if value is True else str(value)


def _list_counts(counts: dict[str, int]) -> str:
    """`aten::_int_mm (54), aten::addmm (18)`, most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} ({count})" for name, count in ordered[:3]) + (", ..." if len(ordered) > 3 else "")


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


DESCRIBE: dict[str, Callable[[dict[str, Any]], str]] = {
    "prompts": _describe_prompts,
    "accelerate": _describe_switches,
    "quant": _describe_quant,
    "attention": _describe_attention,
    "compile": _describe_compile,
    "parallel": _describe_parallel,
}
"""Config group -> how its evidence reads."""
