"""``seqvae``: the verbs, put together."""

import os
import sys
from typing import Annotated

import typer

from seqvae.cli import config, data, methods, runs
from seqvae.cli.bench import bench
from seqvae.cli.compare import compare
from seqvae.cli.console import open_closed_streams
from seqvae.cli.diagnose import diagnose
from seqvae.cli.doctor import doctor
from seqvae.cli.encode import decode, encode, score
from seqvae.cli.evaluate import evaluate
from seqvae.cli.explain import explain
from seqvae.cli.explore import explore
from seqvae.cli.export import export
from seqvae.cli.generate import interpolate, reconstruct, sample
from seqvae.cli.impute import impute
from seqvae.cli.init import init
from seqvae.cli.latent import analogy, neighbors, shift, traverse
from seqvae.cli.plot import plot
from seqvae.cli.push import push
from seqvae.cli.report import report
from seqvae.cli.train import train
from seqvae.cli.usage import verbs
from seqvae.cli.validate import validate

EXAMPLES = """\b
For instance:
  seqvae init mine.txt
  seqvae train --config tiny.yaml
  seqvae interpolate "a sentence" "another one"
  seqvae sample -n 10
  seqvae explain E204
"""

app = verbs("seqvae", "Variational autoencoders over text: train, measure, sample, walk between sentences.", EXAMPLES)
app.command()(init)
app.command()(train)
app.command("eval")(evaluate)
app.command()(diagnose)
app.command()(compare)
app.command()(plot)
app.command()(report)
app.command()(sample)
app.command()(interpolate)
app.command()(reconstruct)
app.command()(neighbors)
app.command()(analogy)
app.command()(traverse)
app.command()(shift)
app.command()(impute)
app.command()(explore)
app.command()(encode)
app.command()(decode)
app.command()(score)
app.command()(push)
app.command()(export)
app.add_typer(config.app)
app.add_typer(data.app)
app.add_typer(runs.app)
app.add_typer(methods.app)
app.command()(bench)
app.command()(validate)
app.command()(explain)
app.command()(doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        from seqvae import __version__

        print(f"seqvae {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...


def main() -> None:
    """Entry point of the console script."""
    open_closed_streams()
    # Read when torch starts its threads. Between two small products a thread that sleeps at once loses a third of the
    # speed; one that spins for long makes two busy programs on few cores a hundred times slower: spin for a moment.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    app(prog_name="seqvae" if sys.argv[0].endswith("__main__.py") else None)
