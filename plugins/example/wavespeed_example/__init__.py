"""An example plugin of wavespeed_runner: importing it registers stages, cache parts and a judge; `conf/` uses them."""

from . import brightest as brightest
from . import colourfulness as colourfulness
from . import grayscale as grayscale
from . import strategy as strategy
