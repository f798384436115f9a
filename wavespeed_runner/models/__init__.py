"""Model families. Importing this registers them; none of it imports torch."""

from . import flux as flux
