"""From a composed config to a plan: what will run, in which order, what the rules say, what is compared with what.

Building a plan loads nothing and writes nothing. Everything that can be wrong with a configuration is found here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..accelerate import adapters
from ..artifacts import Sample
from ..caching.calibration.resolve import list_open_keys, resolve_cache_numbers
from ..config.environment import resolve_device, what_matters
from ..config.paths import resolve_path
from ..config.resolve import resolve_config
from ..config.schema import KEYS_NOT_IN_IMAGES, AdaptersConfig, CacheConfig, Config, Init, to_data, top_level
from ..errors import ConfigError, Unfit
from ..models.weights.checkpoint import inspect
from ..models.weights.external_components import inspect_elsewhere
from ..models.weights.pretrained import completed_from, without
from ..registry import implementation_of
from ..rules.check import STAGE_VALUES, Spoken, judge, refuse_bad
from ..storage.store import Store
from .graph import Graph, build_graph, keys_of
from .reference import Floor, floors, reference_graph

CHARACTERS_A_TOKEN = 20
"""No text encoder in use has words longer than this on average: a longer prompt is cut for certain."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that was set automatically: printed and recorded."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    config: Config
    samples: list[Sample]
    graph: Graph
    keys: list[dict[str, str]]
    """Node -> store key, one dict a sample."""
    images: list[str]
    """Fingerprint of a run that makes this image alone, one a sample."""
    reference: Graph | None
    """None: nothing to compare with, see `reference_kind`."""
    reference_keys: list[dict[str, str]]
    reference_images: list[str]
    reference_kind: str
    """`run`: compared with the reference graph; `self`: nothing lossy is on and the steps are the reference's, so this
    is it; `none`: not asked for."""
    floors: list[Floor]
    """How the reference is generated once more, for the noise floor; none unless asked for."""
    verdicts: list[Spoken]
    changes: list[Change]
    fingerprint: str
    """Identifies everything that determines the images."""

    planned_as: str = ""
    """The identity that another machine gave to it, which decides what is already done; "": none did."""

    @cached_property
    def identity(self) -> str:
        """Identifies everything that decides the record: images, timing, reference, and what is compared how."""
        if self.planned_as:
            return self.planned_as
        given = {key: value for key, value in to_data(self.config).items() if key not in KEYS_NOT_IN_IMAGES}
        said = json.dumps([given, self.keys, self.reference_keys], sort_keys=True)
        return sha256(said.encode()).hexdigest()

    @cached_property
    def asked(self) -> str:
        """Identifies what the plan was made of, on any machine: `identity` also has the machine in it."""
        given = {
            key: value for key, value in to_data(self.config).items() if key not in (*KEYS_NOT_IN_IMAGES, "device")
        }
        stages = {
            node.name: node.stage.identity(node.options) if node.stage.identity else None
            for node in self.graph.nodes.values()
        }
        said = json.dumps([given, [asdict(sample) for sample in self.samples], stages], sort_keys=True, default=str)
        return sha256(said.encode()).hexdigest()

    @property
    def store(self) -> Store:
        return Store(Path(self.config.outputs) / "store")


def build_plan(composed: dict[str, Any], prompts: list[str] | None = None) -> Plan:
    """Types, checks and plans one run.

    Args:
        composed: the application's part of the composed config, plain data, interpolations unresolved.
        prompts: what a record says was asked for, taken as it stands instead of what the config names.

    Raises:
        ConfigError: a bad value, an unfit combination, a missing file, a broken graph or checkpoint.
        omegaconf.errors.OmegaConfBaseException: unknown key or wrong type.
    """
    config, changes = _settle(composed)
    _check_outputs(config.outputs)
    refuse_bad(judge(config))
    config, filled_in = resolve_cache_numbers(config, implementation_of("model", config.model))
    changes += [Change(key=one.key, value=one.value, why=one.why) for one in filled_in]
    verdicts = judge(config)
    refuse_bad(verdicts)
    if config.model.init is Init.pretrained:
        family = implementation_of("model", config.model)
        inspect(config.model.repo, config.model.revision, without=without(family), weights=config.model.weights)
        inspect_elsewhere(family, config.model)
        if completing := completed_from(family, config.model):
            inspect(completing, key="model.components", without=without(family))
    samples = _samples(config, prompts)
    # Of a record with several prompts, each can be made again alone: a token may be in another one.
    texts = [*(sample.prompt for sample in samples), config.negative_prompt] if prompts is None else None
    adapters.check_adapters(config.adapters, texts)
    graph = build_graph(config)
    for node in graph.nodes.values():
        if isinstance(own := getattr(node.options, "adapters", None), AdaptersConfig):
            adapters.check_adapters(own, texts)
        if isinstance(cache := getattr(node.options, "cache", None), CacheConfig):
            for group, key in list_open_keys(cache):
                raise ConfigError(
                    f"graph.stages.{node.name}.options.cache.{group}.{key}=null: a stage's own strategy is not filled "
                    "in from a calibration; give the values, or choose the strategy for all stages with cache=..."
                )
    verdicts += _judge_stages(config, graph, verdicts)
    refuse_bad(verdicts)
    lossless = reference_graph(config, graph)
    matters = what_matters(config.device)

    def images(graph: Graph) -> list[str]:
        return [found[graph.output] for found in keys_of(graph, samples, matters, timing=False)]

    made = images(graph)
    kind = "none" if not config.measure.reference else "self" if lossless == graph else "run"
    compared = kind == "run"
    return Plan(
        config=config,
        samples=samples,
        graph=graph,
        keys=keys_of(graph, samples, matters),
        images=[fingerprint_of([key]) for key in made],
        reference=lossless if compared else None,
        reference_keys=keys_of(lossless, samples, matters) if compared else [],
        reference_images=[fingerprint_of([key]) for key in images(lossless)] if compared else [],
        reference_kind=kind,
        floors=floors(config, lossless, samples, matters),
        verdicts=verdicts,
        changes=changes,
        fingerprint=fingerprint_of(made),
    )


def fingerprint_of(output_keys: Iterable[str]) -> str:
    """The fingerprint of a run whose images have these store keys."""
    return sha256("\n".join(output_keys).encode()).hexdigest()


def _settle(composed: dict[str, Any]) -> tuple[Config, list[Change]]:
    """The typed config with everything automatic decided: the device, and the size of a rehearsal."""
    config = resolve_config(composed)
    changes = []
    settled: dict[str, Any] = {"device": resolve_device(config.device)}
    if config.model.init is Init.tiny:
        family = implementation_of("model", config.model)
        small = {"width": family.tiny_size, "height": family.tiny_size}
        if family.kind == "video":
            small["num_frames"] = family.tiny_frames
        for key, value in small.items():
            if composed.get(key) is None:
                settled[key] = value
                changes.append(Change(key=key, value=value, why="model.init=tiny rehearses at a small size"))
    return replace(config, **settled), changes


def _check_outputs(outputs: str) -> None:
    """Refuses a folder that could not be made, before anything is computed for it."""
    if not outputs.strip():
        raise ConfigError("outputs=: a folder is needed; outputs=outputs is the default")
    folder = Path(outputs)
    there = next((path for path in (folder, *folder.parents) if os.path.exists(path)), Path())
    if not there.is_dir():
        raise ConfigError(f"outputs={outputs}: {there} is a file; give a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"outputs={outputs}: no permission to write in {there}; give another folder")


def _judge_stages(config: Config, graph: Graph, known: list[Spoken]) -> list[Spoken]:
    """What the rules say of values that only one stage has, given as its `options:` in the graph."""
    spoken = []
    for node in graph.nodes.values():
        # A plugin's option of the same name, that does not follow the top-level value, is something else.
        names = {field.name for field in fields(node.stage.options) if field.default == top_level(field.name)}
        own = {name: getattr(node.options, name) for name in STAGE_VALUES if name in names}
        # As if they were everybody's: then the stage follows them.
        stages = {**config.graph.stages, node.name: replace(config.graph.stages[node.name], options=None)}
        alone = replace(config, graph=replace(config.graph, stages=stages), **own)
        new = [word for word in judge(alone) if word not in known]
        spoken += [replace(word, message=f"graph.stages.{node.name}.options: {word.message}") for word in new]
    return spoken


def _samples(config: Config, prompts: list[str] | None) -> list[Sample]:
    """The images that are asked for: given, else the top-level prompt, else one a line of the prompt file."""
    if config.prompt is not None and not config.prompt.strip():
        raise ConfigError("prompt=: it is empty; give one, or leave it out for the prompts group")
    if prompts is None:
        prompts = [config.prompt] if config.prompt is not None else _read_prompts(config.prompts.path)
    limit = getattr(config.model, "max_sequence_length", None)
    for prompt in (*prompts, config.negative_prompt):
        if limit and (len(prompt.split()) >= limit or len(prompt) > limit * CHARACTERS_A_TOKEN):
            raise Unfit(
                f"prompt {prompt[:40]!r}... has {len(prompt.split())} words and {len(prompt)} characters: the model "
                f"reads {limit} tokens, one of them the end mark (model.max_sequence_length), and the rest would be "
                "cut off; shorten it"
            )
    return [
        Sample(prompt=prompt, negative_prompt=config.negative_prompt, seed=config.seed + index)
        for prompt in prompts
        for index in range(config.num_images_per_prompt)
    ]


def _read_prompts(path: str) -> list[str]:
    try:
        lines = resolve_path(path).read_text(encoding="utf-8-sig").splitlines()
    except ConfigError as error:
        raise ConfigError(f"prompts.path={error}") from None
    except OSError as error:
        raise ConfigError(
            f"prompts.path={path}: {error.strerror or error}; give a text file with one prompt a line, or prompt='...'"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"prompts.path={path}: not UTF-8 text; give a text file with one prompt a line") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ConfigError(f"prompts.path={path}: no prompt in it; one prompt a line is needed")
    return prompts
