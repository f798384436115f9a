"""Make the two text encoders and teach them what a caption says; afterwards they stay frozen.

    python -m training.text [--steps 700]

Trained jointly with the transformer, small text encoders never bind word order to position: the
colours come out right and the relation stays at chance. So they are taught first, by heads that
are thrown away: from each token of T5 (which the transformer attends to) the colour, shape, size
and place of the object the token belongs to; from CLIP's pooled vector (which modulates every
block) the whole layout. Both must also say the background and the number of objects.

Tokenizers split at white space into a vocabulary of the captions' words; other words become
<unk>, which training shows in front of some captions. Neither encoder masks padding, since
`FluxPipeline` passes no mask.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from training.common import OUTPUTS, RESULTS, append_row, schedule
from training.lessons import POOLED_HEADS, TOKEN_HEADS, pooled_answers, score, token_answers
from training.scenes import BACKGROUNDS, COLOURS, SHAPES, parse, random_caption

FOLDER = OUTPUTS / "text"
LENGTH = 20  # tokens for both encoders; the longest caption has 18 with its end token
WIDTH = 64
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")  # ids 0 to 3; CLIP pools at the first id 3
WORDS = (
    *("a", "an", "on", "of", "to", "the", "above", "below", "left", "right"),
    *("background", "photo", "image", "picture", "small", "large"),
    *(*COLOURS, *SHAPES, *BACKGROUNDS),
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Lower-cases, drops everything but letters, splits at spaces, appends </s>."""
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex("[^a-z]+"), " ")])
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", SPECIAL.index("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=LENGTH,
    )


@dataclass
class Encoders:
    """The two text encoders of a FLUX pipeline and the tokenizer they share."""

    tokenizer: PreTrainedTokenizerFast
    clip: CLIPTextModel
    t5: T5EncoderModel

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Token ids (N, LENGTH), padded and cut."""
        batch = self.tokenizer(list(captions), padding="max_length", max_length=LENGTH, truncation=True)
        return torch.tensor(batch["input_ids"])

    def __call__(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """T5's states (N, LENGTH, WIDTH) and CLIP's pooled vectors (N, WIDTH)."""
        return self.t5(ids).last_hidden_state, self.clip(ids).pooler_output


def build() -> Encoders:
    """Untrained encoders of two layers each."""
    words = len(SPECIAL) + len(WORDS)
    clip = CLIPTextConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,  # 2 would select transformers' legacy pooling
    )
    t5 = T5Config(
        vocab_size=words,
        d_model=WIDTH,
        d_kv=16,
        d_ff=2 * WIDTH,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=32,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=3,
    )
    return Encoders(tokenizer(), CLIPTextModel(clip), T5EncoderModel(t5))


def save(encoders: Encoders, folder: Path) -> None:
    """Write the encoders under the names of a FLUX pipeline's parts."""
    encoders.clip.save_pretrained(folder / "text_encoder")
    encoders.t5.save_pretrained(folder / "text_encoder_2")
    for name in ("tokenizer", "tokenizer_2"):
        encoders.tokenizer.save_pretrained(folder / name)


def load(folder: Path = FOLDER) -> Encoders:
    """Read the frozen encoders."""
    clip = CLIPTextModel.from_pretrained(folder / "text_encoder")
    t5 = T5EncoderModel.from_pretrained(folder / "text_encoder_2")
    names = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    return Encoders(names, clip.eval().requires_grad_(False), t5.eval().requires_grad_(False))


def training_caption(rng: np.random.Generator) -> str:
    """A caption of the training part; one in twelve opens with a word nobody knows."""
    text = random_caption(rng, pair=rng.random() < 0.6, from_held_out=False)
    return f"unknown {text}" if rng.random() < 1 / 12 else text


def known_part(text: str) -> str:
    """The caption without the unknown word that `training_caption` may have put in front."""
    return text.removeprefix("unknown ")


def train(steps: int, seed: int, batch: int, folder: Path) -> float:
    """Train the encoders with their heads, save the encoders, return the last accuracy."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoders = build()
    token_heads = nn.ModuleList([nn.Linear(WIDTH, n) for n in TOKEN_HEADS.values()])
    pooled_heads = nn.ModuleList([nn.Linear(WIDTH, n) for n in POOLED_HEADS.values()])
    parts = (encoders.clip, encoders.t5, token_heads, pooled_heads)
    params = [p for part in parts for p in part.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(params, lr=2e-3, weight_decay=0.01)
    accuracy = 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * schedule(step, steps, warmup=20, decay=0.5)
        texts = [training_caption(rng) for _ in range(batch)]
        demands = [parse(known_part(text)) for text in texts]
        states, pooled = encoders(encoders.tokens(texts))
        per_token = torch.tensor([token_answers(t, d, LENGTH) for t, d in zip(texts, demands, strict=True)])
        loss_t, right_t = score([head(states) for head in token_heads], per_token)
        whole = torch.tensor([pooled_answers(d) for d in demands])
        loss_p, right_p = score([head(pooled) for head in pooled_heads], whole)
        optimiser.zero_grad()
        (loss_t + loss_p).backward()
        optimiser.step()
        accuracy = min(right_t, right_p)
        if (step + 1) % 25 == 0:
            row = {"step": step + 1, "t5": round(right_t, 4), "clip": round(right_p, 4)}
            append_row(RESULTS / "text.csv", row)
            print(json.dumps(row), flush=True)
    save(encoders, folder)
    return accuracy


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train(args.steps, args.seed, args.batch, FOLDER)


if __name__ == "__main__":
    main()
