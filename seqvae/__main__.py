"""``seqvae``, and ``python -m seqvae``."""

import sys


def main() -> None:
    """Entry point of the console script. Ctrl-C ends it quietly while its modules are imported, too."""
    try:
        from seqvae.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
