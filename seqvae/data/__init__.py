"""Text in, batches out: tokenizers, line-exact sources, named corpora, the token store and the order of batches."""
