"""SpargeAttn as an attention backend of wavespeed_runner: importing it registers `attention=sparge`."""

from . import backend as backend
