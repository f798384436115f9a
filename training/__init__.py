"""How the demo model is made: data, autoencoder, text encoders, transformer, export, evaluation."""
