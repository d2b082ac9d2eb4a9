"""The networks: encoder, posterior families, priors, decoder, and the SeqVAE that joins them."""
