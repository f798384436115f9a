"""Text encoders of the families, and the length of prompts."""
