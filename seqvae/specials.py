"""The four special tokens. They stand alone so that who only tokenizes need not wait for torch."""

PAD, BOS, EOS, UNK = 0, 1, 2, 3
"""Token ids that no text produces (an unknown word gives ``UNK``)."""

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
"""How the four special ids are written when they must be shown."""
