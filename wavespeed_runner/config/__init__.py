"""From a command line to a checked, typed configuration. Loads neither torch nor diffusers."""
