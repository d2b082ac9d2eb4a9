"""``python -m seqvae``."""

from seqvae.cli.app import main

if __name__ == "__main__":
    main()
