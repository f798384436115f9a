"""Models: families, their weights, their text encoders, and the call of a diffusers pipeline. No torch on import."""
