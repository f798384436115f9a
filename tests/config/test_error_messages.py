"""What Hydra, OmegaConf and YAML find wrong is one line with the key, the value, what is allowed, and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import CommandLine


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


KEYS = {
    "cache=fbcach": "cache=fbcach: no option 'fbcach' in config group 'cache' (did you mean 'fbcache'?)",
    "model=/etc/passwd": "model=/etc/passwd: no folder of weights is there; a diffusers folder is ",
    "experiment=nope": "no option 'nope' in config group 'experiment' (allowed: ",
    "hydra/launcher=nope": "hydra/launcher=nope: no option 'nope'",
    "cahce=fbcache": "cahce: no such key (did you mean 'cache'?)",
    "cache=fbcache cache.treshold=0.1": "cache.treshold: no such key (did you mean 'residual_diff_threshold'?)",
    "cache=fbcache cache.criterion.treshold=1": "cache.criterion.treshold: no such key (did you mean 'threshold'?)",
    "cache=fbcache cache/criterio=reuse": "cache/criterio: no such config group (did you mean 'cache/criterion'?)",
    "cache=fbcache cache/criterion=relative": "no option 'relative' in config group 'cache/criterion' (did you mean",
    "cache=fbcache cache.criterion=relative_change": "choose it with cache/criterion=NAME",
    "cache/criterion=relative_change": "the chosen option of 'cache' has no such part",
    "+cache.foo=1": "cache.foo: no such key (allowed: calibrated_for, calibration, chosen_as, ",
    "metrics=[scene,lpip]": "metrics=[lpip]: no such judge (did you mean 'lpips'?)",
    "metrics.scene.x=1": "metrics.scene: it is not chosen; metrics=scene chooses it, metrics=[scene,...] several",
    "+cache=fbcache": "cache: already chosen; on the command line cache=fbcache",
    "~nope": "~nope: nothing to remove",
    "~cache": "cache: a value is needed; give cache=VALUE",
    "model.name=fulx": "model.name=fulx: no",
    "sampler=unipc sampler.name=euler": "sampler.name=euler: an option of the group is chosen as a whole, with its "
    "keys: sampler=OPTION, then sampler.KEY=VALUE",
    "cache=fbcache cache.criterion.name=relative_change": "chosen as a whole, with its keys: cache/criterion=OPTION",
    "hydra.nope=1": "hydra.nope: no such key",
    "hydra.job.chdir=true": "hydra.job.chdir=true: not here; paths on a command line are relative to where it is typed",
}

VALUES = {
    "steps=abc": "steps: Value 'abc'",
    "steps={a:1}": "steps: Value",
    "seed=null": "seed: null is not allowed (wanted: int)",
    "model.dtype=float8": "model.dtype: Invalid value 'float8', expected one of [float32, bfloat16, float16]",
    "measure.reference=maybe": "measure.reference: Value 'maybe'",
    "prompt=???": "prompt: a value is needed; give prompt=VALUE",
    "prompts=file": "prompts.path: a value is needed; give prompts.path=VALUE",
    "cache=null": "cache=null: the name of an option is needed; without any: cache=none",
    "cache=[none,fbcache]": "cache: one option of the group is needed; choose it with cache=NAME",
    "steps=0 cahce=fbcache": "cahce: no such key",
}

WRITTEN_WRONG = {
    "steps": "steps: KEY=VALUE or GROUP=OPTION is needed",
    "a" * 400: "a: KEY=VALUE or GROUP=OPTION is needed",
    "=3": "=3: cannot be composed",
    "a..b=1": "a..b: not a valid key",
    "steps==3": "steps==3: cannot be read as KEY=VALUE",
    "prompt=a=b": "quote the value: 'prompt=\"a=b\"'",
    "prompt=é": "quote the value: 'prompt=\"é\"'",
    'prompt="abc': "cannot be read as KEY=VALUE",
    "prompt=[abc": "cannot be read as KEY=VALUE",
    "prompt={abc": "cannot be read as KEY=VALUE",
    "seeds=1,2,3": "seeds=1,2,3: it is same or per_prompt; several images of a prompt are num_images_per_prompt=3, and "
    "runs with several seeds -m seed=1,2,3",
    'seed="1,2,3"': "several: -m seed=1,2,3 makes a run of each, num_images_per_prompt=3 three images in one run",
    "prompt=a,b": "prompt=a,b: several values; add -m to run each, or quote the value: 'prompt=\"a,b\"'",
    "prompt=${nope}": "prompt: Interpolation key 'nope' not found",
    "prompt=${prompt}": "prompt: Recursive interpolation detected",
}

SWEPT = {
    "seed=interval(0,1)": "seed=interval(0,1): an interval lists no values; write KEY=a,b,c",
    "seed=choice(1,2),3": "seed=choice(1,2),3: a sweep inside a sweep",
    "seed=0,0,1": "seed=0,0,1: 0 is listed twice; list each value once, measure.repeats=N times a run N times",
    "prompt=a,b,a": "prompt=a,b,a: a is listed twice",
    "seed=-1,-1": "seed=-1,-1: -1 is listed twice; list each value once, num_images_per_prompt=2 draws as many",
    "seeds=1,2": "expected one of [same, per_prompt] (wanted: Seeds); it is same or per_prompt; several images of a ",
    "seed=choice(1,2,2)": "seed=choice(1,2,2): 2 is listed twice",
    "seed=range(0)": "seed=range(0): nothing to run",
    "seed=range(a)": "seed=range(a): error while evaluating",
    "seed=foo(1)": "Unknown function 'foo'",
    "seed=1,": "seed=1,: cannot be read as KEY=VALUE",
    "cache=none,fbcach": "no option 'fbcach' in config group 'cache' (did you mean 'fbcache'?) (job 2 of 2: ",
}


@pytest.mark.parametrize(("typed", "words"), (KEYS | VALUES).items(), ids=(KEYS | VALUES).keys())
def test_a_wrong_key_or_value_is_one_line(command: CommandLine, typed: str, words: str) -> None:
    assert words in command.refuses(*typed.split(" "))


def test_p_is_hydras_flag_for_a_package(command: CommandLine) -> None:
    assert command.refuses("-p", "foo").startswith("--package=foo: only with --cfg, such as --cfg job; -p is short for")


@pytest.mark.parametrize(("typed", "words"), WRITTEN_WRONG.items(), ids=WRITTEN_WRONG.keys())
def test_what_cannot_be_read_is_one_line(command: CommandLine, typed: str, words: str) -> None:
    assert words in command.refuses(typed)


@pytest.mark.parametrize(("typed", "words"), SWEPT.items(), ids=SWEPT.keys())
def test_a_wrong_sweep_is_one_line(command: CommandLine, typed: str, words: str) -> None:
    assert words in command.refuses("-m", typed)


@pytest.mark.parametrize("typed", ["seed=1,2", "steps=4,8", "cache=fbcache,teacache", "rerun=true,false"])
def test_where_no_text_may_stand_no_quotes_are_offered(command: CommandLine, typed: str) -> None:
    assert command.refuses(typed) == f"{typed}: several values; add -m to run each"


def test_an_experiment_in_this_folder_is_found_by_neither_name(command: CommandLine) -> None:
    """It is told how it would be."""
    file = command.folder / "experiment" / "pp.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\nsteps: 5\n")
    said = command.refuses_command("experiment=pp")
    assert said == "experiment=pp: experiment/pp.yaml here is not read by itself; add --config-dir ."
    assert "; from=experiment/pp.yaml takes the settings of" in command.refuses("experiment/pp.yaml")
    assert "from=" not in command.refuses("experiment/other.yaml")
    file.unlink()
    file.parent.rmdir()


USER_FILES = {
    "broken": ("start: [1\n", "cache/mine.yaml, line 2, column 1: broken YAML"),
    "tabs": ("defaults:\n\t- x\n", "cache/mine.yaml, line 2, column 1: broken YAML"),
    "a key twice": ("start: 0.1\nstart: 0.2\n", "line 2, column 1: broken YAML: found duplicate key start"),
    "a tag": ("start: !!python/object/apply:os.system [x]\n", "broken YAML: could not determine a constructor"),
    "a list": ("- 1\n", "cache: one option of the group is needed"),
    "a typo": ("defaults: [fbcache, _self_]\nstrat: 0.1\n", "(did you mean 'start'?); in cache/mine.yaml"),
    "a wrong type": ("defaults: [fbcache, _self_]\nstart: abc\n", "cache.start: Value 'abc'"),
    "no name": ("start: 0.1\n", "cache.name: a value is needed"),
    "a wrong name": ("name: fbcach\n", "cache.name=fbcach: no"),
    "a wrong schema": ("defaults: [/schema/cache/fbcach@_here_]\n", "(did you mean 'fbcache'?); in cache/mine.yaml"),
    "defaults that are no list": ("defaults: {a: b}\n", "defaults: a list is needed; a defaults list may name options"),
    "no such default": ("defaults: [/nope/x]\n", "nope/x: no such config; in cache/mine.yaml"),
    "itself": ("defaults: [mine]\n", "refers to itself"),
    "an alias in itself": ("a: &a\n  b: *a\n", "with its aliases followed"),
    "a missing interpolation": ("defaults: [fbcache, _self_]\nstart: ${nope}\n", "cache.start: Interpolation key"),
    "a circle": ("defaults: [fbcache, _self_]\nstart: ${cache.end}\nend: ${cache.start}\n", "Recursive interpolation"),
}


@pytest.mark.parametrize(("text", "words"), USER_FILES.values(), ids=USER_FILES.keys())
def test_a_wrong_option_of_the_users_is_one_line(command: CommandLine, text: str, words: str) -> None:
    command.config("cache/mine", text)
    assert words in command.refuses("cache=mine")


def test_an_option_that_is_not_text_is_one_line(command: CommandLine) -> None:
    command.config("cache/mine", "")
    (command.configs / "cache/mine.yaml").write_bytes(b"\x00\xff\xfe")
    assert "cache/mine.yaml: not UTF-8 text" in command.refuses("cache=mine")


FITTED = "defaults: [override /sampler: fitted]\nsampler: {"

USER_EXPERIMENTS = {
    "a typo": ("stesp: 3\n", "stesp: no such key (did you mean 'steps'?); in experiment/mine.yaml"),
    "a group that is none": ("defaults: [override /cahce: x]\n", "cahce: no such config group (did you mean 'cache'?)"),
    "no override": ("defaults: [/cache: fbcache]\n", "in a file 'override /cache: fbcache'"),
    "a name for an option": ("cache: fbcache\n", "('override /cache: NAME' among a file's defaults)"),
    "null": ("cache: null\n", "cache: null is not allowed"),
    "a mapping for a number": ("steps: {a: 3}\n", "steps: Value"),
    "numbers for lists": (f"{FITTED}output_weights: [1, 2]}}\n", "sampler.output_weights: a list is needed, not int"),
    "lists for numbers": (
        f"{FITTED}timesteps: [9.0], noise_weights: [1.0], output_weights: [[[1]]]}}\n",
        "sampler.output_weights[0]: a float is needed, not a list",
    ),
    "other numbers": (
        f"{FITTED}timesteps: [9.0], noise_weights: [1.0], output_weights: '${{sampler.timesteps}}'}}\n",
        "sampler.output_weights: a list of lists of numbers is needed; copy the numbers unchanged",
    ),
}


@pytest.mark.parametrize(("text", "words"), USER_EXPERIMENTS.values(), ids=USER_EXPERIMENTS.keys())
def test_a_wrong_experiment_of_the_users_is_one_line(command: CommandLine, text: str, words: str) -> None:
    command.experiment(text)
    assert words in command.refuses("experiment=mine")


def test_an_experiment_without_its_header_is_told_so(command: CommandLine) -> None:
    command.config("experiment/mine", "steps: 3\n")
    assert "begins with the line '# @package _global_'" in command.refuses("experiment=mine")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "compile.mode=max-autotune",
            "no key of the chosen option of compile, but of compile=default",
        ),
        ("quant.components=[x]", "quant.components: no key of the chosen option of quant, but of quant="),
        ("quant.nope=[x]", "the chosen option of quant has no keys; choose another first: quant=custom|fp8_dq|"),
        ("quant.skip=x quant=int8_wo", "quant.skip: a list is needed, not str: quant.skip=[...]"),
        ("compile=true", "compile=true: the name of an option is needed (allowed: default, max_autotune, "),
    ],
)
def test_what_is_meant_by_an_option_that_has_no_such_key(command: CommandLine, override: str, words: str) -> None:
    assert words in command.refuses(*override.split())


@pytest.mark.parametrize("option", ["fbcache", "planned"])
def test_a_part_whose_keys_the_option_sets_is_replaced_with_custom(command: CommandLine, option: str) -> None:
    told = command.refuses(f"cache={option}", "cache/criterion=interval")
    assert "for a criterion of its own: cache=custom cache/criterion=NAME takes any" in told
    assert told.endswith(f"in cache/{option}.yaml")
    assert command("cache=custom", "cache/criterion=interval", "dry_run=true").status == 0
