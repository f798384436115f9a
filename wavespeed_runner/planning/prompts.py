"""Reads the prompts and expands them to samples: the images that a run is asked for."""

from __future__ import annotations

from ..artifacts import Sample
from ..config.limits import check_limits
from ..config.schema import Config, Weighting
from ..errors import ConfigError, Unfit
from ..inputs.files import PROMPTS, InputError, read_text, resolve_path
from ..inputs.limits import MAX_PROMPTS
from ..models.text.clip_chunks import MAX_CHUNKS
from ..models.text.markup import parse_markup
from .graph import Graph
from .seeds import list_seeds

CHARACTERS_A_TOKEN = 20
"""No text encoder in use averages more characters a token than this: a longer prompt is certain to be cut off."""


def build_samples(config: Config, prompts: list[str] | None, *, warmed: bool = True) -> list[Sample]:
    """Lists the images that are asked for.

    Args:
        config: its `prompt`, or else its prompt file, one prompt a line, or else its `prompts.texts`.
        prompts: given instead of both, for a run that is made again from its record.
        warmed: as of `check_limits`.

    Raises:
        ConfigError: an empty prompt, a file that cannot be read, a prompt that the model would cut off.
    """
    if config.prompt is not None and not config.prompt.strip():
        raise ConfigError("prompt=: it is empty; give one, or leave it out for the prompts group")
    if prompts is None:
        prompts = read_prompts(config)
    check_limits(config, len(prompts), warmed=warmed)
    negative = config.negative_prompt or ""
    for prompt in (*prompts, negative):
        _check_length(prompt, getattr(config.model, "max_sequence_length", None))
        if config.prompts.weighting is not Weighting.none:
            _check_breaks(prompt)
    return [
        Sample(prompt=prompt, negative_prompt=negative, seed=seed)
        for number, prompt in enumerate(prompts)
        for seed in list_seeds(config, number)
    ]


def list_texts(config: Config, samples: list[Sample]) -> list[str]:
    """The prompts of a run, each once, and its negative prompt."""
    return [*dict.fromkeys([*(sample.prompt for sample in samples), config.negative_prompt or ""])]


def refuse_own_reading(config: Config, graph: Graph) -> None:
    """Refuses a stage that would read the prompts in another way than `prompts` says: rules judge that way alone.

    Raises:
        ConfigError: names the option.
    """
    for node in graph.nodes.values():
        for key in ("weighting", "chunked"):
            if node.stage.name == "encode" and getattr(node.options, key) != getattr(config.prompts, key):
                raise ConfigError(
                    f"graph.stages.{node.name}.options.{key}: all stages read the prompts alike; set "
                    f"prompts.{key} instead"
                )


def _check_length(prompt: str, limit: int | None) -> None:
    """Refuses a prompt that is certainly longer than the model's limit in tokens."""
    if limit and (len(prompt.split()) >= limit or len(prompt) > limit * CHARACTERS_A_TOKEN):
        raise Unfit(
            f"prompt {prompt[:40]!r}... has {len(prompt.split())} words and {len(prompt)} characters: the model "
            f"reads {limit} tokens, one of them the end mark (model.max_sequence_length), and the rest would be "
            "cut off; shorten it"
        )


def _check_breaks(prompt: str) -> None:
    """Refuses a prompt of more parts between breaks than chunks are read: each has a chunk of its own."""
    if prompt.count("BREAK") >= MAX_CHUNKS and (parts := len(parse_markup(prompt))) > MAX_CHUNKS:
        raise Unfit(
            f"prompt {prompt[:40]!r}...: {parts} parts between BREAK, each a chunk of its own, and at most "
            f"{MAX_CHUNKS} chunks are read; leave some out"
        )


def read_prompts(config: Config) -> list[str]:
    """The prompts that a config names: its `prompt`, else those of its prompt file, else `prompts.texts`.

    Raises:
        ConfigError: there is none, or the file cannot be read.
    """
    group = config.prompts
    if config.prompt is not None:
        return [config.prompt]
    if group.path is not None:
        return _read_file(group.path)
    if not group.texts:
        raise ConfigError("prompts.texts: no prompt in it; give some, or prompts.path=FILE, or prompt='...'")
    if len(group.texts) > MAX_PROMPTS:
        raise ConfigError(f"prompts.texts: {len(group.texts)} prompts; at most {MAX_PROMPTS} are read")
    if empty := [number for number, text in enumerate(group.texts) if not text.strip()]:
        raise ConfigError(f"prompts.texts.{empty[0]}: it is empty; leave it out")
    return list(group.texts)


def _read_file(path: str) -> list[str]:
    """Reads a prompt file, one prompt a line; empty lines do not count."""
    try:
        lines = read_text(resolve_path(path), PROMPTS.max_bytes).splitlines()
    except ConfigError as error:
        raise ConfigError(f"prompts.path={error}") from None
    except OSError as error:
        raise ConfigError(
            f"prompts.path={path}: {error.strerror or error}; give a text file with one prompt a line, or prompt='...'"
        ) from None
    except InputError as error:
        raise ConfigError(f"prompts.path={path}: {error}; give a text file with one prompt a line") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ConfigError(f"prompts.path={path}: no prompt in it; one prompt a line is needed")
    if len(prompts) > MAX_PROMPTS:
        raise ConfigError(f"prompts.path={path}: {len(prompts)} prompts; at most {MAX_PROMPTS} are read from one file")
    return prompts
