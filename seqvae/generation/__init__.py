"""From latent codes to token sequences: decoding, and paths between codes."""
