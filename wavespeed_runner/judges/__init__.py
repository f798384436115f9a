"""Judges: metrics of images beside SSIM, PSNR and MAE, one file a kind. Importing it registers them.

`metric.py` has what a judge is; a plugin registers its own with the same decorator.
"""

from . import perceptual as perceptual
from . import scene as scene
from . import temporal as temporal
from . import text_image as text_image
from .metric import Metric as Metric
from .metric import metric as metric
