"""Model families, one file each. Importing this package registers them, without importing torch."""

from . import chroma as chroma
from . import cogvideox as cogvideox
from . import flux as flux
from . import flux2 as flux2
from . import flux_fill as flux_fill
from . import flux_kontext as flux_kontext
from . import generic as generic
from . import hidream as hidream
from . import hunyuan_video as hunyuan_video
from . import hunyuan_video15 as hunyuan_video15
from . import hunyuan_video_i2v as hunyuan_video_i2v
from . import ltx2 as ltx2
from . import ltx_video as ltx_video
from . import lumina2 as lumina2
from . import pixart_sigma as pixart_sigma
from . import qwen_image as qwen_image
from . import qwen_image_edit as qwen_image_edit
from . import sana as sana
from . import sd as sd
from . import sd3 as sd3
from . import sdxl as sdxl
from . import wan as wan
from . import z_image as z_image
