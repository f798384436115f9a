"""What is judged on and what may be tuned on have nothing in common."""

from __future__ import annotations

from benchmarks.peers.prompts import calibration, judged
from training.scenes import held_out, parse


def test_numbers_and_halves():
    for prompts, count in ((judged(), 32), (calibration(), 16)):
        assert len(prompts) == len({prompt.text for prompt in prompts}) == count
        assert sum(len(parse(prompt.text).things) == 2 for prompt in prompts) == count // 2


def test_no_content_and_no_seed_is_in_both_lists():
    assert not {parse(prompt.text) for prompt in judged()} & {parse(prompt.text) for prompt in calibration()}
    assert not {prompt.seed for prompt in judged()} & {prompt.seed for prompt in calibration()}


def test_judged_prompts_were_held_out_of_training_and_the_others_were_not():
    assert all(held_out(prompt.text) for prompt in judged())
    assert not any(held_out(prompt.text) for prompt in calibration())


def test_the_same_at_every_call():
    assert judged() == judged()
    assert calibration() == calibration()
