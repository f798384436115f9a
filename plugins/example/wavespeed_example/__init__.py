"""A plugin of wavespeed_runner: importing it registers the stage `grayscale`; `conf/` holds a graph that uses it."""

from . import grayscale as grayscale
