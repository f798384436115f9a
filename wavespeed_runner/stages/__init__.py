"""The stages that a graph is made of: load, encode, denoise, decode and others, one file each. Imports no torch."""

from . import decode as decode
from . import denoise as denoise
from . import detect_shapes as detect_shapes
from . import encode as encode
from . import load as load
from . import overlay as overlay
from . import read_image as read_image
from . import regions as regions
from . import upscale as upscale
from .interface import Stage as Stage
from .interface import stage as stage
