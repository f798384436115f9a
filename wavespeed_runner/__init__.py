"""Find, prove and share the fastest settings of a diffusion model: a runner driven by YAML.

Importing this package imports neither torch nor diffusers.
"""

__version__ = "0.1.0"
