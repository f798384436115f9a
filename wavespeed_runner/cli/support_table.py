"""What fits with what, of everything that is shipped or installed: model x graph x sampler x cache.

Nothing is listed by hand: each combination is put together as a run would be, and the rules speak on it. A combination
is refused when its model and graph, model and cache, graph and cache, sampler and cache, or model, graph and sampler do
not fit; a test holds the rules to that, so these tables say all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..caching.calibration.resolve import resolve_cache_numbers
from ..config.compose import compose_job, composer
from ..config.paths import CONF
from ..config.resolve import resolve_config
from ..config.schema import Config, Init
from ..errors import ConfigError, did_you_mean
from ..registry import find_implementation, lookup
from ..rules.check import apply_rules

HEAD = """# What fits with what

Made by `python -m wavespeed_runner support`, from the rules that check every run. `yes`: supported. `~`: runs, and the
plan says what to mind. A number: refused, for the reason below the table.
"""
GROUPS = ("graph", "sampler", "cache")
_REPO = {name: ("model.repo=a/b",) for name in ("generic", "generic_video")}
"""Models that have no repository of their own."""
STARTED = "image_to_image"
"""Stands for all graphs that start from an image."""
CALIBRATION = "needs a calibration of the run: `python -m wavespeed_runner calibrate`"
OF_EVERY_RUN = ("half-on-cpu", "whole")
"""Rules that speak of a model or a machine, whatever is combined."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """What the rules say of one combination."""

    mark: str
    """`yes`, `~` or `no`."""
    reasons: tuple[str, ...] = ()


class Shipped:
    """Every option of the four groups, composed once."""

    def __init__(self, models: Iterable[str] = ()) -> None:
        self.names = {group: _options(group) for group in ("model", *GROUPS)}
        for name in models:
            if name not in self.names["model"]:
                raise ConfigError(f"model={name}: no such option{did_you_mean(name, self.names['model'])}")
        self.models = list(models) or self.names["model"]
        with composer(None):
            self._models = {name: _typed(f"model={name}", *_REPO.get(name, ())) for name in self.models}
            self._options = {g: {n: getattr(_typed(f"{g}={n}"), g) for n in self.names[g]} for g in GROUPS}

    def config(self, model: str, **chosen: str) -> Config:
        """The config of a model with these options of the other groups, by group; else the defaults."""
        chosen = {"sampler": "default", "cache": "none", **chosen}
        found = {group: self._options[group][name] for group, name in chosen.items()}
        return replace(self._models[model], **found)

    def word(self, model: str, **chosen: str) -> Word:
        """What the rules say of a model with these options that they do not say of every run."""
        config = self.config(model, **chosen)
        bad, minded = [], []
        for spoken in apply_rules(config):
            # Reasons of several models are the same text.
            reason = re.sub(rf"\bmodel {config.model.name}\b", "this model", spoken.message)
            reason = re.sub(rf"^sampler={config.sampler.name}: not for this model: {config.sampler.name} ", "", reason)
            if "cache" in chosen:
                reason = re.sub(rf"^cache={config.cache.name}( with cache\.depth=\d+)?: ", "", reason)
                reason = re.sub(r"and \d+ are run", "and the model's default is another number", reason)
            if "sampler" in chosen:
                reason = re.sub(rf"\b(sampler[ =])?{config.sampler.name}\b", "it", reason)
            if spoken.verdict == "bad":
                bad.append(reason)
            elif spoken.verdict == "unverified" and spoken.rule not in OF_EVERY_RUN:
                minded.append(reason)
        if bad:
            return Word(mark="no", reasons=tuple(bad))
        return Word(mark="~" if minded else "yes", reasons=tuple(minded))

    def calibrated(self, model: str, **chosen: str) -> Word:
        """`word`, and whether the strategy needs numbers that neither are published nor come with the package."""
        word, config = self.word(model, **chosen), self.config(model, **chosen)
        if word.mark == "no":
            return word
        try:
            resolve_cache_numbers(config, find_implementation("model", config.model))
        except ConfigError:
            return Word(mark="~", reasons=(CALIBRATION, *word.reasons))
        return word

    def strategies(self) -> str:
        """A Markdown table of the strategies: what each is, and of what."""
        lines = ["| cache | what | signal | criterion | predictor | source |", "|---|---|---|---|---|---|"]
        for name in self.names["cache"]:
            cache = self._options["cache"][name]
            what = (CONF / "cache" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
            parts = [getattr(part, "name", "") for part in (cache.signal, cache.criterion, cache.predictor)]
            found = re.search(r"https://\S+[^\s.,;]", lookup("cache", cache.name).options.__doc__ or "")
            lines.append(f"| `{name}` | {what} | {' | '.join(parts)} | {f'<{found[0]}>' if found else ''} |")
        return "\n".join(lines)


def _options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def _typed(*overrides: str) -> Config:
    config = resolve_config(compose_job([*overrides, "device=cpu"], [*overrides, "device=cpu"]))
    return replace(config, model=replace(config.model, init=Init.pretrained))


def _matrix(title: str, rows: list[str], columns: list[str], words: dict[tuple[str, str], Word]) -> str:
    """A Markdown table, and the reasons that its numbers stand for."""
    numbers: dict[str, int] = {}

    def cell(word: Word) -> str:
        marks = [str(numbers.setdefault(reason, len(numbers) + 1)) for reason in word.reasons[:1]]
        return word.mark if word.mark == "yes" else (f"~{marks[0]}" if word.mark == "~" else marks[0])

    lines = [f"| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| `{row}` | {' | '.join(cell(words[row, column]) for column in columns)} |" for row in rows]
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in numbers.items())]).rstrip()


def _alike(
    rows: list[str], columns: list[str], words: dict[tuple[str, str], Word]
) -> tuple[list[str], dict[tuple[str, str], Word]]:
    """Columns that say the same everywhere, together."""
    groups: dict[tuple[Word, ...], list[str]] = {}
    for column in columns:
        groups.setdefault(tuple(words[row, column] for row in rows), []).append(column)
    joined = {", ".join(members): members[0] for members in groups.values()}
    return list(joined), {(row, title): words[row, first] for title, first in joined.items() for row in rows}


def _apart(
    by_graph: dict[tuple[str, str], Word],
    by_cache: dict[tuple[str, str], Word],
    by_both: dict[tuple[str, str, str], Word],
) -> list[str]:
    """Graphs and caches that fit a model each and do not fit together, as a list of the caches."""
    found: dict[str, tuple[dict[str, None], dict[str, None], str]] = {}
    for (model, graph, cache), word in by_both.items():
        if word.mark == "no" != by_graph[model, graph].mark and by_cache[model, cache].mark != "no":
            models, graphs, _ = found.setdefault(cache, ({}, {}, word.reasons[0]))
            models[model] = graphs[graph] = None
    lines = [
        f"- `{cache}` not with {', '.join(graphs)} of {', '.join(models)}: {reason}"
        for cache, (models, graphs, reason) in found.items()
    ]
    return ["\n## Graphs and caches\n", *lines] if lines else []


def _samplers(shipped: Shipped) -> str:
    """Models that take the same samplers, together: there are too many samplers for columns."""
    names = shipped.names["sampler"]
    alike: dict[tuple[Word, ...], list[str]] = {}
    for model in shipped.models:
        said = (shipped.word(model, graph=graph, sampler=name) for graph in _two(shipped, model) for name in names)
        alike.setdefault(tuple(said), []).append(model)
    parts = []
    for words, models in alike.items():
        plain, started = dict(zip(names, words, strict=False)), dict(zip(names, words[len(names) :], strict=True))
        fit = [f"{name}{' ~' if word.mark == '~' else ''}" for name, word in plain.items() if word.mark != "no"]
        minded: dict[str, list[str]] = {}
        for name, word in plain.items():
            if word.mark != "yes":
                minded.setdefault(f"{'not' if word.mark == 'no' else 'mind'}: {word.reasons[0]}", []).append(name)
            elif started[name].mark == "no":
                minded.setdefault(f"not from an image: {started[name].reasons[0]}", []).append(name)
        parts.append(f"### {', '.join(models)}\n\nFit: {', '.join(fit)}.\n")
        parts += [f"- {', '.join(members)}: {reason}" for reason, members in minded.items()]
        parts.append("")
    return "\n".join(parts)


def _two(shipped: Shipped, model: str) -> tuple[str, str]:
    """A graph that fits the model and one that starts from an image, where one fits: some samplers mind that."""
    own = fitting_graph(shipped, model)
    return own, STARTED if shipped.word(model, graph=STARTED).mark != "no" else own


def fitting_graph(shipped: Shipped, model: str) -> str:
    """A graph that fits the model."""
    return next(g for g in sorted(shipped.names["graph"], reverse=True) if shipped.word(model, graph=g).mark != "no")


def table(models: Iterable[str] = ()) -> str:
    """The whole text."""
    shipped = Shipped(models)
    graphs, caches, samplers = (shipped.names[group] for group in ("graph", "cache", "sampler"))
    by_graph = {(m, g): shipped.word(m, graph=g) for m in shipped.models for g in graphs}
    own = {model: fitting_graph(shipped, model) for model in shipped.models}
    by_cache = {(m, c): shipped.calibrated(m, graph=own[m], cache=c) for m in shipped.models for c in caches}
    marks = {model: {by_cache[model, cache].mark for cache in caches if cache != "none"} for model in shipped.models}
    # First those that mind nothing with their own sampler: what is said then is of the sampler and the cache alone.
    cached = sorted((model for model in marks if marks[model] != {"no"}), key=lambda model: "yes" not in marks[model])

    def best(sampler: str, cache: str) -> Word:
        """Of the models that take the cache, what the first one says that takes the sampler too."""
        words = (shipped.word(m, graph=own[m], sampler=sampler, cache=cache) for m in cached)
        return next((word for word in words if word.mark != "no"), Word(mark="no", reasons=("no such model takes it",)))

    pairs = {(sampler, cache): best(sampler, cache) for sampler in samplers for cache in caches if cache != "none"}
    together = [
        "## Samplers and caches, on models that take a cache\n",
        _matrix("sampler", samplers, *_alike(samplers, [cache for cache in caches if cache != "none"], pairs)),
    ]
    by_both = {(m, g, c): shipped.word(m, graph=g, cache=c) for m in shipped.models for g in graphs for c in caches}
    sections = [
        HEAD,
        "## Models and graphs\n",
        _matrix("model", shipped.models, graphs, by_graph),
        "\n## Cache strategies\n",
        shipped.strategies(),
        "\n## Models and caches\n",
        _matrix("model", shipped.models, caches, by_cache),
        *_apart(by_graph, by_cache, by_both),
        "\n## Models and samplers\n",
        _samplers(shipped),
        *(together if cached else []),
    ]
    return "\n".join(sections) + "\n"
