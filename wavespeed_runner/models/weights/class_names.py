"""Names that a model_index.json may hold: of libraries, pipelines, and classes of components."""

from __future__ import annotations

import re

LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "ltx2")
"""Libraries that model_index.json may load classes from; the last two are pipeline folders of diffusers."""
PIPELINES = re.compile(r"(?!Auto|Onnx|DiffusionPipeline)[A-Z]\w*Pipeline(StableDiffusion(XL)?)?", re.ASCII)
"""diffusers takes any of its attributes by this name."""

ENDINGS = (
    "Model", "UNet", "Transformer", "VAE", "Vae", "Autoencoder", "Prior", "Encoder", "Decoder", "Adapter", "CLIP",
    "Projection", "Connectors", "Embedder", "Embeddings", "Head", "Upsampler", "Bank", "NeXt", "Renderer", "Vocoder",
    "VocoderWithBWE", "HifiGan", "Guidance", "Guider", "Normalizer", "Transformation", "Watermarker",
    "SafetyChecker", "Tokenizer", "TokenizerFast", "Detokenizer", "Processor", "ProcessorFast", "ProcessorPil",
    "Extractor", "Scheduler",
)  # fmt: skip
LOADABLE = re.compile(
    rf"(?!Auto(?!encoder)|Rag|Bark|Musicgen|\w*EncoderDecoderModel|\w*DualEncoder|Timm|\w*Pipeline|\w*(PreTrainedModel|Mixin|Output|Config)\Z)[A-Z]\w*({'|'.join(ENDINGS)}|(Model|UNet)\w+|For[A-Z]\w+)"
    r"|([A-Z]\w*)?Autoencoder\w+|(Tokenizers|SentencePiece|Python|MistralCommon)Backend",
    re.ASCII,
)
"""Names of classes that a component may have: models, tokenizers, processors and schedulers. Not the `Auto` classes,
which look up others by what a configuration says, nor those that are put together of any two or three others or come
from another library, not pipelines inside a pipeline, not base classes, which nothing can be built of, and not
functions."""
PARTS = re.compile(
    r"(?!(requires|enable|add|use|is)_)(\w+_)?(scheduler|solver|tokenizer|encoder|decoder|vae|vqgan|unet|transformer|prior|extractor|processor|checker|"
    r"controlnet|adapter|connectors|vocoder|detector|guider|normalizer|watermarker)(_\d+|_image|_noise)?"
)
"""Names of components: what they are can only be said by a library and a class."""
TEXTS = ("prediction_type", "hdr_transform", "pag_applied_layers", "id2label", "target_properties")
"""Options of diffusers' pipelines that are texts or objects; all others are numbers, yes or no, or lists of numbers."""
