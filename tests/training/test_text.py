"""The tokenizer and the lessons of the text encoders."""

import numpy as np
import pytest

from training import lessons, text
from training.scenes import held_out, parse


def test_the_longest_caption_fits_and_ends_with_its_end_token() -> None:
    words = "a picture of a purple triangle to the left of an orange triangle on a white background"
    ids = text.tokenizer()(words).input_ids
    assert len(ids) <= text.LENGTH
    assert ids[-1] == text.SPECIAL.index("</s>")
    assert text.SPECIAL.index("<unk>") not in ids


def test_case_and_punctuation_do_not_matter_and_other_words_are_unknown() -> None:
    made = text.tokenizer()
    assert made("A RED circle.").input_ids == made("a red circle").input_ids
    assert made("a red dog").input_ids[2] == text.SPECIAL.index("<unk>")


def test_token_lessons_name_the_object_each_word_belongs_to() -> None:
    caption = "a red circle above a blue square"
    colour, shape, size, place, background, count = lessons.token_answers(caption, parse(caption), text.LENGTH)
    none = lessons.IGNORE
    assert colour[:8] == [0, 0, 0, none, 2, 2, 2, none]
    assert shape[:8] == [0, 0, 0, none, 1, 1, 1, none]
    assert size[:3] == [0, 0, 0]
    assert place[:7] == [1, 1, 1, none, 2, 2, 2]
    assert background[:8] == [0] * 8
    assert count[:8] == [1] * 8
    assert set(background[8:]) == {none}


def test_the_pooled_lesson_depends_on_the_layout_not_on_the_wording() -> None:
    one = lessons.pooled_answers(parse("a red circle above a blue square"))
    other = lessons.pooled_answers(parse("a blue square below a red circle"))
    assert one == other


@pytest.mark.parametrize("seed", range(3))
def test_training_captions_are_never_held_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = [text.training_caption(rng) for _ in range(300)]
    assert not any(held_out(text.known_part(t)) for t in texts)
    assert any(t != text.known_part(t) for t in texts)
