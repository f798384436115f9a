"""A plugin of wavespeed_runner: importing it registers what it adds; `conf/` puts it to use."""

from . import brightest as brightest
from . import grayscale as grayscale
from . import strategy as strategy
