"""Writes what fits together as Markdown tables: model x graph x sampler x cache, and model x attention backend.

A combination is refused exactly when its model and graph, model and cache, graph and cache, sampler and cache, or
model, graph and sampler do not fit. A test holds the rules to that, so these tables are complete.
"""

from __future__ import annotations

import re

from ..config.paths import CONF
from ..registry import lookup
from .support_attention import describe_models
from .support_check import Combinations, Support
from .support_known import describe_known
from .support_pairs import describe_pairs

HEAD = """# What fits with what

Made by `python -m wavespeed_runner support`, from the rules that check every run. `yes`: supported. `~`: runs, and the
plan says what to mind. A number: refused, for the reason below the table.
"""
FROM_IMAGE = "image_to_image"
"""Stands for all graphs that start from an image."""


PARALLEL = """What several ranks can share, with two of them (`unified`: four) and the model's own guidance:
[parallel.md](parallel.md). The denoiser of every family that is divided here is held to one process by
`tests/accelerate/parallel/test_families.py` and `test_guidance.py`.
"""
ELSEWHERE = """`python -m wavespeed_runner support` without a model, and docs/support.md, have it of a transformer, a
U-Net and a video model. The plan of a run (`dry_run=true`) says it of that run.
"""


def table(options: Combinations, *, named: bool = False) -> str:
    """The whole text, for the models of these combinations.

    named: somebody asked for these models: what is known to work with them comes first, and the table of pairs, which
        is of three others, is left out.
    """
    graphs, caches = options.names["graph"], options.names["cache"]
    by_graph = {(m, g): options.check(m, graph=g) for m in options.models for g in graphs}
    own = {model: options.find_graph(model) for model in options.models}
    by_cache = {(m, c): options.check_calibration(m, graph=own[m], cache=c) for m in options.models for c in caches}
    by_parallel = {
        (m, p): options.check(m, graph=own[m], parallel=p) for m in options.models for p in options.names["parallel"]
    }
    fitting = [(m, g, c) for (m, g), fits in by_graph.items() if fits.mark != "no" for c in caches]
    by_both = {(m, g, c): options.check(m, graph=g, cache=c) for m, g, c in fitting if by_cache[m, c].mark != "no"}
    known = ["\n## What is known to work\n", describe_known(options)]
    sections = [
        HEAD,
        *(known if named else []),
        "\n## Models and graphs\n" if named else "## Models and graphs\n",
        _matrix("model", options.models, graphs, by_graph),
        "\n## Cache strategies\n",
        _strategies(options),
        "\n## Models and caches\n",
        _matrix("model", options.models, caches, by_cache),
        *_graphs_and_caches(by_both),
        *([] if named else known),
        "\n## Models and samplers\n",
        _samplers(options),
        *_samplers_and_caches(options, own, by_cache),
        "\n## Models and attention backends\n",
        describe_models(options),
        "\n## Models and parallelism\n",
        PARALLEL,
        _matrix("model", options.models, options.names["parallel"], by_parallel),
        "\n## Accelerations in pairs\n",
        ELSEWHERE if named else describe_pairs(),
    ]
    return "\n".join(sections) + "\n"


def _strategies(options: Combinations) -> str:
    """A table of the cache strategies: what each is, and its parts."""
    lines = ["| cache | what | signal | criterion | predictor | source |", "|---|---|---|---|---|---|"]
    for name in options.names["cache"]:
        cache = options.cache(name)
        file = CONF / "cache" / f"{name}.yaml"
        shipped = file.is_file()
        what = file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") if shipped else "one of your own"
        parts = [getattr(part, "name", "") for part in (cache.signal, cache.criterion, cache.predictor)]
        source = re.search(r"https://\S+[^\s.,;]", lookup("cache", cache.name).options.__doc__ or "")
        lines.append(f"| `{name}` | {what} | {' | '.join(parts)} | {f'<{source[0]}>' if source else ''} |")
    return "\n".join(lines)


def _matrix(title: str, rows: list[str], columns: list[str], support: dict[tuple[str, str], Support]) -> str:
    """A table, and below it the reasons that its numbers stand for."""
    numbers: dict[str, int] = {}

    def cell(value: Support) -> str:
        marks = [str(numbers.setdefault(reason, len(numbers) + 1)) for reason in value.reasons[:1]]
        return value.mark if value.mark == "yes" else (f"~{marks[0]}" if value.mark == "~" else marks[0])

    lines = [f"| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| `{row}` | {' | '.join(cell(support[row, column]) for column in columns)} |" for row in rows]
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in numbers.items())]).rstrip()


def _join_equal_columns(
    rows: list[str], columns: list[str], support: dict[tuple[str, str], Support]
) -> tuple[list[str], dict[tuple[str, str], Support]]:
    """Joins columns with the same content."""
    groups: dict[tuple[Support, ...], list[str]] = {}
    for column in columns:
        groups.setdefault(tuple(support[row, column] for row in rows), []).append(column)
    joined = {", ".join(members): members[0] for members in groups.values()}
    return list(joined), {(row, title): support[row, first] for title, first in joined.items() for row in rows}


def _graphs_and_caches(by_both: dict[tuple[str, str, str], Support]) -> list[str]:
    """A list of the caches that do not fit a graph, of those (`by_both`) that each fit the model."""
    conflicts: dict[str, tuple[dict[str, None], dict[str, None], str]] = {}
    for (model, graph, cache), support in by_both.items():
        if support.mark == "no":
            models, graphs, _ = conflicts.setdefault(cache, ({}, {}, support.reasons[0]))
            models[model] = graphs[graph] = None
    lines = [
        f"- `{cache}` not with {', '.join(graphs)} of {', '.join(models)}: {reason}"
        for cache, (models, graphs, reason) in conflicts.items()
    ]
    return ["\n## Graphs and caches\n", *lines] if lines else []


def _samplers(options: Combinations) -> str:
    """For each group of models that take the same samplers, which those are: there are too many for columns."""
    names = options.names["sampler"]
    groups: dict[tuple[Support, ...], list[str]] = {}
    for model in options.models:
        graphs = _two_graphs(options, model)
        support = (options.check(model, graph=graph, sampler=name) for graph in graphs for name in names)
        groups.setdefault(tuple(support), []).append(model)
    parts = []
    for values, models in groups.items():
        plain = dict(zip(names, values[: len(names)], strict=True))
        from_image = dict(zip(names, values[len(names) :], strict=True))
        fit = [f"{name}{' ~' if value.mark == '~' else ''}" for name, value in plain.items() if value.mark != "no"]
        remarks: dict[str, list[str]] = {}
        for name, value in plain.items():
            if value.mark != "yes":
                remarks.setdefault(f"{'not' if value.mark == 'no' else 'mind'}: {value.reasons[0]}", []).append(name)
            elif from_image[name].mark == "no":
                remarks.setdefault(f"not from an image: {from_image[name].reasons[0]}", []).append(name)
        parts.append(f"### {', '.join(models)}\n\nFit: {', '.join(fit)}.\n")
        parts += [f"- {', '.join(members)}: {reason}" for reason, members in remarks.items()]
        parts.append("")
    return "\n".join(parts)


def _two_graphs(options: Combinations, model: str) -> tuple[str, str]:
    """A graph that fits the model, and one that starts from an image where one fits: some samplers need the start."""
    own = options.find_graph(model)
    return own, FROM_IMAGE if options.check(model, graph=FROM_IMAGE).mark != "no" else own


def _samplers_and_caches(
    options: Combinations, own: dict[str, str], by_cache: dict[tuple[str, str], Support]
) -> list[str]:
    """The table of samplers and caches, on the models that take a cache.

    Args:
        options: all of them.
        own: model -> a graph that fits it.
        by_cache: the support of each model and cache.
    """
    samplers, caches = options.names["sampler"], [cache for cache in options.names["cache"] if cache != "none"]
    marks = {model: {by_cache[model, cache].mark for cache in caches} for model in options.models}
    # First the models without a doubt about their own sampler: then every doubt is about sampler and cache alone.
    models = sorted((model for model in marks if marks[model] != {"no"}), key=lambda model: "yes" not in marks[model])
    if not models:
        return []

    def check(sampler: str, cache: str) -> Support:
        """Of the models that take the cache, the support on the first one that takes the sampler too."""
        values = (options.check(model, graph=own[model], sampler=sampler, cache=cache) for model in models)
        none = Support(mark="no", reasons=("no such model takes it",))
        return next((value for value in values if value.mark != "no"), none)

    pairs = {(sampler, cache): check(sampler, cache) for sampler in samplers for cache in caches}
    return [
        "## Samplers and caches, on models that take a cache\n",
        _matrix("sampler", samplers, *_join_equal_columns(samplers, caches, pairs)),
    ]
