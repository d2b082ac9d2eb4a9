"""How fast seqvae is beside a textbook: one script per kind of work, each a ratio measured in one run."""
