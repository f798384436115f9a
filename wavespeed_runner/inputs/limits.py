"""The bounds of what is read from files that someone else may have written.

They are above what runs of today need, and low enough that a hostile file is refused within about a second.
"""

from __future__ import annotations

MIB = 1024 * 1024

MAX_CONFIG_BYTES = MIB // 4
"""A config, an experiment or a site's options: written by hand, or exported from such ones."""
MAX_CONFIG_FILES = 1000
"""Of one composed config, each counted as often as defaults lists name it; ours has some forty."""
MAX_CONFIG_NODES = 10_000
"""Keys and values of a config, with each alias of YAML counted as often as what it stands for. Hydra and OmegaConf take
a tenth of a millisecond for each of them."""
MAX_TEXT_BYTES = 16 * MIB
"""A prompt file."""
MAX_PROMPTS = 100_000
"""Prompts of one file or record."""
MAX_OVERRIDES = 1000
"""Overrides of one record; Hydra takes a millisecond for each."""
MAX_SWEEP_JOBS = 20_000
"""Jobs of one `sweep.json`: twice as many as `limits.jobs`. A report takes two milliseconds for each."""
MAX_SWEEP_WORDS = 200_000
MAX_SWEEP_CHARACTERS = 16 * MIB
"""Overrides of all jobs of one `sweep.json`, and their characters."""
MAX_AXES = 100
"""Swept keys of one `sweep.json`."""
MAX_CALIBRATION_BYTES = 16 * MIB
MAX_CALIBRATION_NODES = 500_000
"""Numbers of a calibration: it grows with the square of its steps, and one of 200 steps has some 250,000."""
MAX_CALIBRATION_HEAD_BYTES = MIB // 16
"""The first part of a calibration, which says what it is for."""
MAX_RECORD_BYTES = 256 * MIB
"""A record of 100,000 images has some 200 MB; one of `limits.images` images, 10,000, of 50 steps some 110 MB."""
MAX_RECORD_VALUES = 12_000_000
"""The largest record has about one value for each 25 bytes. Python takes half a second for a million of them."""
MAX_TIMINGS = 100_000
"""Repetitions of one image."""
MAX_STEP_RECORDS = 200_000
"""Steps of one image: 1000 in each of 200 stages."""
MAX_REPORT_BYTES = 1280 * MIB
MAX_REPORT_VALUES = 50_000_000
"""Of all records of one report: `limits.sweep_images` images, 100,000, of 50 steps have some 1.2 GB and 42 million."""
MAX_WIDE_BYTES = 256 * MIB
"""Memory of the text of a JSON file, or of its texts, with a character that makes Python take more than a byte for
each. Our records are ASCII, where only prompts and names with such a character count."""
MAX_JSON_BYTES = 64 * MIB
"""Any other JSON: a tokenizer's vocabulary, an index of weights."""
MAX_JSON_VALUES = 4_000_000
"""Tokenizers of large vocabularies have some 30 MB and up to 1.5 million values."""
MAX_MODEL_CONFIG_BYTES = 4 * MIB
MAX_MODEL_CONFIG_VALUES = 100_000
"""`model_index.json`, and a model's or scheduler's configuration: a few kilobytes; with a name for each of 20,000
classes, as large classifiers have, some 2 MB and 40,000 values."""
MAX_COMPONENTS = 100
"""Of a pipeline; published ones have up to some 15."""
MAX_FOLDER_ENTRIES = 5000
"""Files and folders in one folder of a model; published ones have up to some 200."""
MAX_HEADER_BYTES = 100_000_000
"""The header of a safetensors file; the limit of the safetensors library itself."""
MAX_TENSORS = 50_000
"""Of one safetensors file: mixtures of hundreds of experts have fewer than 20,000, others below 10,000."""
MAX_IMAGE_BYTES = 256 * MIB
MAX_SIDE = 16384
"""Width, and height, of an image that is made."""
MAX_PIXELS = MAX_SIDE * MAX_SIDE
"""Width x height of an image that is decoded: as large as the largest that is made."""
MAX_DECODED_BYTES = 3 * MAX_PIXELS
"""Width x height x channels x bytes of each, as an image's file has them: ours have three of one byte. With 16 bits and
transparency an image of the same size would have nearly three times as many."""

MAX_DEPTH = 100
"""Lists and mappings inside each other."""
MAX_INTERPOLATIONS = 100
"""Beginnings of an interpolation, `${`, in one text of a config; OmegaConf takes a fifth of a millisecond for each."""
MAX_ALL_INTERPOLATIONS = 1000
"""In all texts of one file."""
MAX_DIGITS = 100
"""Characters of one number. Longer ones take quadratic time to read, and overflow what comes later."""

MAX_ADDED_TOKENS = 20_000
"""Words of a tokenizer that are added to its vocabulary; transformers takes some 20 microseconds for each. Published
ones have up to 6,500."""
MAX_TOKENS = 2_000_000
"""Words of any vocabulary. Published ones have up to 260,000."""
MAX_LEARNED_VECTORS = 1000
"""Vectors of one learned token: diffusers adds a word for each, and a prompt of CLIP's has 77 tokens."""
MAX_ADAPTERS = 100
"""Of one pipeline. Each of a list is looked at by several rules; people combine up to some ten."""
MAX_RANK = 4096
"""Of a LoRA. People train up to 1024, also for layers that are narrower than that."""
MAX_VOCABULARY_BYTES = 64 * MIB
"""A tokenizer's file that is no JSON: words, merges, a model of SentencePiece. Published ones have up to 10 MB."""
MAX_CHAT_TEMPLATE_BYTES = MIB
"""Published ones have up to 20 KB."""
MAX_TOKENIZER_PARTS = 1000
"""Normalizers, rules that split a text and the like of one tokenizer, with all that they consist of."""
MAX_TEXT_GROWTH = 5000
"""How many times longer a tokenizer may make a text before it has tokens, if each part does its worst. ALBERT's may
make it 2,400 times longer: NFKD 18 times, and a table of characters after it 16 times."""
MAX_TEMPLATE_TOKENS = 100
"""Tokens that a tokenizer puts around a text."""
MAX_EXPANSION_BYTES = 64
"""What one character may stand for in a tokenizer's table of characters; the longest of Unicode's own has 33."""
MAX_GGUF_KEYS = 10_000
MAX_GGUF_TENSORS = 20_000
"""Keys and tensors of a GGUF file. Published ones have up to 100 and 2,000."""
MAX_GGUF_ENTRIES = 200_000
"""Entries of all arrays in the header of a GGUF file; its reader takes some 10 microseconds for each."""
MAX_GGUF_TEXT_BYTES = MIB
"""One text in the header of a GGUF file."""
MAX_GGUF_HEADER_BYTES = 16 * MIB
MAX_GGUF_DEPTH = 4
"""Arrays inside each other in the header of a GGUF file."""
MAX_GGUF_DIMENSIONS = 8
MAX_INPUT_PIXELS = 2**26
"""Width x height of an image that a run begins with: 8192 x 8192. A larger one takes gigabytes to decode."""
MAX_SCANNED_PIXELS = 2**32
"""Width x height x scans of a JPEG: each scan goes over all pixels again. A progressive one has some ten."""
MAX_PAGE_PIXELS = 2**31
"""Width x height of all images together that are decoded for one page of a report: 2,000 of 1024 x 1024."""
