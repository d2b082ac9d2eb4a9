"""The latent explorer: a local page on a small server, and the same page as one file."""
