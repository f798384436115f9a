"""A plugin of wavespeed_runner: importing it registers its stages; `conf/` holds a graph that uses one."""

from . import brightest as brightest
from . import grayscale as grayscale
