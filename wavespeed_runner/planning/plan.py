"""Plans a run: what will be executed, in which order, what the rules say, and what is compared with what.

Planning loads no model and writes nothing. Everything that can be wrong with a configuration is found here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..accelerate import adapters
from ..artifacts import Sample
from ..caching.calibration.resolve import list_open_keys, resolve_cache_numbers
from ..config import trust
from ..config.environment import collect_key_parts
from ..config.limits import check_limits
from ..config.schema import KEYS_NOT_IN_IMAGES, AdaptersConfig, CacheConfig, Config, ModelConfig, to_data, top_level
from ..errors import ConfigError
from ..inputs.unreadable import refuse_unreadable
from ..judges.chosen import check_judges, identify_judges
from ..registry import find_implementation
from ..rules.check import STAGE_VALUES, Finding, apply_rules, refuse_bad
from ..rules.data_batches import judge_batches
from ..rules.markup import judge_markup
from ..rules.prompt_seeds import judge_seeds
from ..storage.folders import explain_no_place, explain_unwritable
from ..storage.store import Store
from .automatic import Change, decide_automatic
from .graph import Graph, build_graph, refuse_many_stages
from .image_sizes import judge_crops
from .prompts import build_samples, list_texts, refuse_own_reading
from .reference import Floor, build_reference_graph, is_own_reference, plan_noise_floors
from .sampler_numbers import resolve_sampler_numbers
from .sizes import refuse_large
from .store_keys import compute_fingerprint, compute_keys_of_samples
from .weights import inspect_weights


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is decided about a run before it starts."""

    config: Config
    samples: list[Sample]
    graph: Graph
    keys: list[dict[str, str]]
    """Node -> store key, one dict a sample."""
    images: list[str]
    """Fingerprint of a run that makes this image alone, one a sample."""
    reference: Graph | None
    """None: there is nothing to compare with, see `reference_kind`."""
    reference_keys: list[dict[str, str]]
    reference_images: list[str]
    reference_kind: str
    """`run`: compared with the reference graph; `self`: nothing lossy is on and the steps are the reference's, so the
    run is its own reference; `none`: not asked for."""
    floors: list[Floor]
    """How the reference is generated once more, for the noise floor; empty unless asked for."""
    verdicts: list[Finding]
    changes: list[Change]
    fingerprint: str
    """Identifies everything that determines the images."""

    planned_as: str = ""
    """The identity that another machine gave to this plan; it decides what is already done. Empty: no other did."""

    @cached_property
    def identity(self) -> str:
        """Identifies everything that determines the record: images, timing, reference, and what is compared how."""
        if self.planned_as:
            return self.planned_as
        given = {k: v for k, v in trust.remove_places(to_data(self.config)).items() if k not in KEYS_NOT_IN_IMAGES}
        judges = [identify_judges(self.config)] if self.config.metrics else []
        text = json.dumps([given, self.keys, self.reference_keys, *judges], sort_keys=True)
        return sha256(text.encode()).hexdigest()

    @cached_property
    def asked(self) -> str:
        """Identifies what was asked for, the same on every machine; `identity` also depends on the machine."""
        ignored = (*KEYS_NOT_IN_IMAGES, "device")
        given = {k: v for k, v in trust.remove_places(to_data(self.config)).items() if k not in ignored}
        stages = {
            node.name: node.stage.identity(node.options) if node.stage.identity else None
            for node in self.graph.nodes.values()
        }
        asked: list[Any] = [given, [asdict(sample) for sample in self.samples], stages]
        asked += [identify_judges(self.config)] if self.config.metrics else []
        text = json.dumps(asked, sort_keys=True, default=str)
        return sha256(text.encode()).hexdigest()

    @property
    def store(self) -> Store:
        """The store below the run's output folder."""
        return Store(Path(self.config.outputs) / "store")


def build_plan(composed: dict[str, Any], prompts: list[str] | None = None, *, warmed: bool = True) -> Plan:
    """Types, checks and plans one run.

    Args:
        composed: the application's part of the composed config, plain data, interpolations unresolved.
        prompts: the prompts that a record lists, used as they are instead of what the config names.
        warmed: whether the steps of the warm-up count for `limits.steps`; a call from Python has none.

    Raises:
        ConfigError: a bad value, a combination that does not fit, a missing file, a broken graph or checkpoint.
        omegaconf.errors.OmegaConfBaseException: unknown key or wrong type.
    """
    with refuse_unreadable(composed):
        return _build_plan(composed, prompts, warmed)


def _build_plan(composed: dict[str, Any], prompts: list[str] | None, warmed: bool) -> Plan:
    refuse_many_stages(composed)
    config, changes = decide_automatic(composed)
    check_limits(config, warmed=warmed)
    _check_outputs(config.outputs)
    refuse_bad(apply_rules(config))
    config, solver = resolve_sampler_numbers(config)
    changes += solver
    config, values = resolve_cache_numbers(config, find_implementation("model", config.model))
    changes += [Change(key=value.key, value=value.value, why=value.why) for value in values]
    verdicts = apply_rules(config)
    refuse_bad(verdicts)
    changes += inspect_weights(config)
    samples = build_samples(config, prompts, warmed=warmed)
    check_judges(config, dict.fromkeys(sample.prompt for sample in samples))
    verdicts += judge_seeds(config, len(samples) // config.num_images_per_prompt)
    verdicts += judge_batches(config, len(samples))
    verdicts += judge_markup(config, list_texts(config, samples))
    refuse_bad(verdicts)
    # Of a record with several prompts, each can be made again alone: an adapter's token may be in another prompt.
    texts = list_texts(config, samples) if prompts is None else None
    adapters.check_adapters(config.adapters, texts, config.model)
    graph = build_graph(config)
    refuse_large(config, graph)
    refuse_own_reading(config, graph)
    verdicts += judge_crops(graph, config, {change.key for change in changes})
    _check_stage_options(graph, texts, config.model)
    verdicts += _apply_rules_to_stages(config, graph, verdicts)
    refuse_bad(verdicts)
    return _assemble_plan(config, samples, graph, verdicts, changes)


def _assemble_plan(
    config: Config, samples: list[Sample], graph: Graph, verdicts: list[Finding], changes: list[Change]
) -> Plan:
    """Adds the reference, the noise floors and all keys to what was checked."""
    lossless = build_reference_graph(config, graph)
    matters = collect_key_parts(config.device)

    def compute_image_keys(graph: Graph) -> list[str]:
        return [keys[graph.output] for keys in compute_keys_of_samples(graph, samples, matters, timing=False)]

    image_keys = compute_image_keys(graph)
    is_same = is_own_reference(config, graph, lossless)
    kind = "none" if not config.measure.reference else "self" if is_same else "run"
    compared = kind == "run"
    return Plan(
        config=config,
        samples=samples,
        graph=graph,
        keys=compute_keys_of_samples(graph, samples, matters),
        images=[compute_fingerprint([key]) for key in image_keys],
        reference=lossless if compared else None,
        reference_keys=compute_keys_of_samples(lossless, samples, matters) if compared else [],
        reference_images=[compute_fingerprint([key]) for key in compute_image_keys(lossless)] if compared else [],
        reference_kind=kind,
        floors=plan_noise_floors(config, lossless, samples, matters),
        verdicts=verdicts,
        changes=changes,
        fingerprint=compute_fingerprint(image_keys),
    )


def _check_outputs(outputs: str) -> None:
    """Refuses a folder that cannot be made, before anything is computed for it."""
    if not outputs.strip():
        raise ConfigError("outputs=: a folder is needed; outputs=outputs is the default")
    if reason := explain_unwritable(Path(outputs)):
        raise ConfigError(f"outputs={outputs}: {reason}; give another folder")
    for place in (Path(outputs, name) for name in ("store", "runs", "sweeps")):
        if reason := explain_no_place(place):
            raise ConfigError(f"outputs={outputs}: {place}: {reason}; remove that link, or give another folder")


def _check_stage_options(graph: Graph, texts: list[str] | None, model: ModelConfig) -> None:
    """Checks adapters and cache strategies that the graph gives to single stages."""
    for node in graph.nodes.values():
        if isinstance(given := getattr(node.options, "adapters", None), AdaptersConfig):
            adapters.check_adapters(given, texts, model)
        if isinstance(cache := getattr(node.options, "cache", None), CacheConfig):
            for group, key in list_open_keys(cache):
                raise ConfigError(
                    f"graph.stages.{node.name}.options.cache.{group}.{key}=null: a stage's own strategy is not filled "
                    "in from a calibration; give the values, or choose the strategy for all stages with cache=..."
                )


def _apply_rules_to_stages(config: Config, graph: Graph, known: list[Finding]) -> list[Finding]:
    """What the rules say of values that only one stage has, given as its `options:` in the graph."""
    findings = []
    for node in graph.nodes.values():
        # A plugin's option of the same name that does not follow the top-level value means something else.
        names = {field.name for field in fields(node.stage.options) if field.default == top_level(field.name)}
        values = {name: getattr(node.options, name) for name in STAGE_VALUES if name in names}
        # Judged as if all stages had these values: then the stage follows them.
        stages = {**config.graph.stages, node.name: replace(config.graph.stages[node.name], options=None)}
        alone = replace(config, graph=replace(config.graph, stages=stages), **values)
        new = [finding for finding in apply_rules(alone) if finding not in known]
        findings += [
            replace(finding, message=f"graph.stages.{node.name}.options: {finding.message}") for finding in new
        ]
    return findings
