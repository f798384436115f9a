"""Model families. Importing this registers them; none of it imports torch."""

from .families import chroma as chroma
from .families import cogvideox as cogvideox
from .families import flux as flux
from .families import flux2 as flux2
from .families import generic as generic
from .families import hidream as hidream
from .families import hunyuan_video as hunyuan_video
from .families import hunyuan_video15 as hunyuan_video15
from .families import hunyuan_video_i2v as hunyuan_video_i2v
from .families import ltx2 as ltx2
from .families import ltx_video as ltx_video
from .families import lumina2 as lumina2
from .families import pixart_sigma as pixart_sigma
from .families import qwen_image as qwen_image
from .families import sana as sana
from .families import sd as sd
from .families import sd3 as sd3
from .families import sdxl as sdxl
from .families import wan as wan
from .families import z_image as z_image
