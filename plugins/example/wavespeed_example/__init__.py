"""An example plugin of wavespeed_runner: importing it registers its stages and cache parts; `conf/` uses them."""

from . import brightest as brightest
from . import grayscale as grayscale
from . import strategy as strategy
