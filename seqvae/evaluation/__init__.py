"""What a model is worth: likelihood bounds, use of the latent code, reconstruction, and a verdict."""
