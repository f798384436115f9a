"""Watches the compiler: what it compiled, compiled again or gave up on, and for how long, during one generation.

torch keeps a list of metrics with an entry for each time it turned to compile something
(`torch._dynamo.utils.CompilationMetrics`, with the guard that failed where code was compiled before), and counters
(`torch._dynamo.utils.counters`). Both are process-wide; what is new in them after a generation belongs to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from inspect import unwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError

if TYPE_CHECKING:
    from torch import nn

COUNTERS = {
    "graphs": ("stats", "unique_graphs"),
    "cache_hits": ("inductor", "fxgraph_cache_hit"),
    "cache_misses": ("inductor", "fxgraph_cache_miss"),
    "cudagraph_skips": ("inductor", "cudagraph_skips"),
}
"""Field of `CompileEvents` -> torch's counter."""

REASONS = ("graph_breaks", "recompiles", "fallbacks")
"""Fields of `CompileEvents` that say why."""


@dataclass(kw_only=True)
class CompileEvents:
    """What the compiler did during a time."""

    compilations: int = 0
    """Times that it turned to compile something."""
    seconds: float = 0.0
    """Spent compiling."""
    graphs: int = 0
    """Compiled graphs."""
    cache_hits: int = 0
    """Graphs whose code was in the compiler's cache on disk."""
    cache_misses: int = 0
    """Graphs for which code had to be made."""
    cudagraph_skips: int = 0
    """Graphs that could not be replayed as CUDA graphs although the mode asks for it."""
    graph_breaks: list[str] = field(default_factory=list)
    """Why a graph ended early, one entry a break."""
    recompiles: list[str] = field(default_factory=list)
    """`CLASS: GUARD` for what was compiled although it had been before: the check that failed."""
    fallbacks: list[str] = field(default_factory=list)
    """`CLASS: REASON` for what could not be compiled, and ran eagerly."""
    compiled: list[str] = field(default_factory=list)
    """Class names of all that was compiled."""

    def add(self, other: CompileEvents) -> None:
        """Adds another time's events to these."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def explain_void(self) -> str | None:
        """Why a timing during which this happened is none; None if nothing happened."""
        if self.recompiles:
            return f"compiled again while it was timed, because a guard failed: {self.recompiles[0]}"
        if self.fallbacks:
            return f"fell back to eager code while it was timed: {self.fallbacks[0]}"
        if self.compilations or self.graphs:
            return f"compiled while it was timed: {', '.join(self.compiled) or 'a graph'}"
        return None


class CompileMonitor:
    """Follows what is compiled for one pipeline."""

    def __init__(self, targets: Mapping[str, Sequence[nn.Module]]) -> None:
        """Takes the modules whose `forward` is compiled, by component."""
        self.targets = targets
        self.total = CompileEvents()
        """Everything since the pipeline was loaded."""
        self.shared = _count_graphs(targets)
        """Graphs of these classes that the process had before, compiled for other pipelines: torch uses them where
        their guards hold."""
        self._names = {
            place: type(module).__name__
            for modules in targets.values()
            for module in modules
            for place in _locate_forward(module)
        }
        self._compiled: set[Any] = set()
        """Where the code stands that has been compiled for this pipeline."""

    @contextmanager
    def watch(self) -> Iterator[CompileEvents]:
        """Yields events that are complete when the context ends."""
        from torch._dynamo.utils import counters, get_compilation_metrics

        events = CompileEvents()
        known, before = len(get_compilation_metrics()), _copy(counters)
        try:
            yield events
        finally:
            for metrics in get_compilation_metrics()[known:]:
                self._record(events, metrics)
            for name, (group, counter) in COUNTERS.items():
                setattr(events, name, counters[group][counter] - before.get(group, {}).get(counter, 0))
            breaks = Counter(counters["graph_break"]) - Counter(before.get("graph_break", {}))
            events.graph_breaks = [_shorten(reason) for reason in breaks.elements()]
            self.total.add(events)

    def refuse_eager(self, components: Sequence[str]) -> None:
        """Raises RunError if nothing of these components has been compiled although they have been called.

        torch compiles nothing, without a word, where an environment variable says so.
        """
        if self.targets.keys() & set(components) and not (self.total.graphs or self.shared or self.total.fallbacks):
            raise RunError(
                f"compile: nothing of {', '.join(components)} was compiled; unset TORCH_COMPILE_DISABLE and "
                "TORCHDYNAMO_DISABLE, or use compile=none"
            )

    def build_evidence(self) -> dict[str, Any]:
        """For the record's `engaged.compile`: everything since the pipeline was loaded."""
        total = self.total
        return {
            "graphs": total.graphs,
            **({"shared_graphs": self.shared} if self.shared else {}),
            "graph_breaks": len(total.graph_breaks),
            "recompiles": len(total.recompiles),
            "fallbacks": len(total.fallbacks),
            "seconds": round(total.seconds, 3),
            "cache_hits": total.cache_hits,
            "cache_misses": total.cache_misses,
            **({"cudagraph_skips": total.cudagraph_skips} if total.cudagraph_skips else {}),
            **{f"{name}_why": _count(why) for name in REASONS if (why := getattr(total, name))},
        }

    def _record(self, events: CompileEvents, metrics: Any) -> None:
        """Adds one of torch's entries to the events."""
        place = (metrics.co_filename, metrics.co_firstlineno)
        name = self._names.get(place) or _name_place(metrics)
        events.compilations += 1
        events.seconds += (metrics.duration_us or 0) / 1e6
        if metrics.fail_type is not None:
            guard = f" ({metrics.recompile_reason})" if metrics.recompile_reason else ""
            events.fallbacks.append(f"{name}: {_shorten(metrics.fail_reason or metrics.fail_type)}{_shorten(guard)}")
            return
        events.compiled.append(name)
        # torch compares with what any pipeline of this process has compiled of the same class.
        if metrics.recompile_reason and place in self._compiled:
            events.recompiles.append(f"{name}: {_shorten(metrics.recompile_reason.partition(': ')[2])}")
        self._compiled.add(place)


def _locate_forward(module: nn.Module) -> Iterator[tuple[str, int]]:
    """File and line of the code of a module's `forward`, with and without its decorators."""
    for function in (type(module).forward, unwrap(type(module).forward)):
        if code := getattr(function, "__code__", None):
            yield code.co_filename, code.co_firstlineno


def _count_graphs(targets: Mapping[str, Sequence[nn.Module]]) -> int:
    """How many graphs torch holds for the `forward` of these modules, which all modules of a class share."""
    from torch._dynamo.eval_frame import _debug_get_cache_entry_list

    forwards = {type(module).forward for modules in targets.values() for module in modules}
    codes = [function.__code__ for function in forwards if hasattr(function, "__code__")]
    return sum(len(_debug_get_cache_entry_list(code)) for code in codes)


def _name_place(metrics: Any) -> str:
    """Names code that is no module's `forward`: what follows a graph break, or a function called eagerly."""
    if metrics.co_filename is None:
        return "a block"
    return f"{metrics.co_name} ({Path(metrics.co_filename).name}:{metrics.co_firstlineno})"


def _copy(counters: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {group: dict(counted) for group, counted in counters.items()}


def _shorten(text: str) -> str:
    """One line, without torch's advice that follows the reason."""
    line = text.partition("\n  Hint")[0].partition("\nUser stack")[0]
    return " ".join(line.split())[:300]


def _count(reasons: list[str]) -> dict[str, int]:
    return dict(Counter(reasons).most_common(10))
