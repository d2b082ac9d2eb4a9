"""``seqvae encode``, ``decode`` and ``score``."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqvae.cli.console import emit_json_lines, emit_lines, emit_texts, run_verb, say
from seqvae.cli.options import (
    BeamOption,
    DeviceOption,
    GreedyOption,
    JsonOption,
    LabelOption,
    LengthOption,
    ModelOption,
    SeedOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    UnkOption,
    decoding,
    drawing_generator,
    iw_samples_option,
    load_model,
    seed_option,
)
from seqvae.cli.sentences import STDIN, STDIN_NAME, ColumnOption, InputOption, Sentences, TextsArgument
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.evaluation.score import Scores

COLUMNS = ("nats", "nats_per_token", "tokens", "text")


@run_verb()
def encode(
    texts: TextsArgument = None,
    file: InputOption = None,
    column: ColumnOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An .npz, .parquet or .jsonl file; one that is there is replaced.",
            show_default="JSON lines on stdout",
        ),
    ] = None,
    model: ModelOption = None,
    label: LabelOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Turn sentences into latent codes: mean and standard deviation of q(z|x), one row for each sentence.

    .npz holds the arrays mean and std [sentences, dimensions]; .parquet and .jsonl hold text, mean and std. Lines and
    rows are parallel: a blank line is an empty sentence. Put `--` before sentences that begin with a dash.
    """
    from seqvae.io import codes

    sentences = Sentences(texts, file, column)
    if out is not None:
        codes.check_suffix(out)
        _check_target(out, file)
    vae, _ = load_model(model, device)
    vae.need_latent("encode")
    if out is None:
        for piece in sentences.pieces(vae):
            found = vae.encode(piece.store, label=label)
            emit_json_lines(codes.json_rows(piece.texts, found.mean, found.std))
        return
    count = 0
    with codes.writing(out) as writer:
        for piece in sentences.pieces(vae):
            found = vae.encode(piece.store, label=label)
            writer.write(piece.texts, found.mean, found.std)
            count += len(found)
    say(f"codes    {count:,} of {vae.latent_dim} dimensions in {out}")


def _check_target(out: Path, file: Path | None) -> None:
    if out.is_dir():
        raise SeqVAEError("E251", "--out is a folder", where=str(out), hint="name a file in it")
    if file is not None and out.exists() and file.exists() and out.samefile(file):
        raise SeqVAEError("E251", "--out is the file that is read", where=str(out), hint="give the codes another name")


@run_verb()
def decode(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Codes as `encode` writes them, or - for JSON lines on stdin.")
    ],
    greedy: GreedyOption = False,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    beam: BeamOption = None,
    allow_unk: UnkOption = False,
    max_length: LengthOption = 200,
    seed: SeedOption = None,
    model: ModelOption = None,
    label: LabelOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write the sentence of each latent code of a file, one line each on stdout.

    The file needs the column (or array) mean: what any program wrote will do. Greedy unless an option says otherwise.
    """
    from seqvae.data.lines import text_lines
    from seqvae.io import codes

    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    config = decoding(default="greedy", greedy=greedy, beam=beam, allow_unk=allow_unk, max_length=max_length, **drawn)
    is_stdin = str(file) == STDIN
    if not is_stdin:
        codes.check_suffix(file)
    vae, _ = load_model(model, device)
    vae.need_latent("decode")
    if is_stdin:
        means = codes.means_of_lines(text_lines(sys.stdin.buffer, STDIN_NAME), STDIN_NAME, vae.latent_dim)
    else:
        means = codes.read_means(file, vae.latent_dim)
    generator = drawing_generator(seed, config)
    emit_texts(
        (text for mean in means for text in vae.decode(mean, config=config, seed=generator, label=label)), as_json=json
    )


@run_verb()
def score(
    texts: TextsArgument = None,
    file: InputOption = None,
    column: ColumnOption = None,
    by: Annotated[
        Literal["elbo", "iw", "rec"] | None,
        typer.Option(
            help="elbo: -ELBO; iw: the tighter IW-NLL; rec: -log p(x|z) alone.",
            show_default="elbo; rec for a plain autoencoder, which has no likelihood",
        ),
    ] = None,
    iw_samples: Annotated[int, iw_samples_option("Samples of z for each sentence.")] = 10,
    seed: Annotated[int, seed_option("Seed of the samples.")] = 0,
    header: Annotated[bool, typer.Option("--header", help="Begin with a line that names the columns.")] = False,
    model: ModelOption = None,
    label: LabelOption = None,
    device: DeviceOption = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line; rec, kl, elbo, iw too.")] = False,
) -> None:
    """Score sentences by how unlikely they are under the model: the higher, the less they belong.

    One line each on stdout, in the order of the sentences, with tabs between nats, nats per token, tokens (the end of
    the sentence counted) and text: `seqvae score - | sort -gr | head` shows the strangest lines, `sort -gr -k2` those
    that are strange for their length. Put `--` before sentences that begin with a dash.
    """
    sentences = Sentences(texts, file, column)
    vae, _ = load_model(model, device)
    for piece in sentences.pieces(vae):
        found = vae.score(piece.store, by=by, samples=iw_samples, seed=seed, first_row=piece.first_row, label=label)
        if piece.first_row == 0:
            say(f"score    {_meaning(found)}")
            if header and not json:
                emit_lines(["\t".join(COLUMNS)])
        if json:
            emit_json_lines(_as_json(found, piece.texts))
        else:
            emit_lines(_as_columns(found, piece.texts))


def _meaning(scores: "Scores") -> str:
    if scores.elbo is None:
        return "rec in nats, -log p(x|z) at the code: a plain autoencoder has no likelihood"
    if scores.samples is None:
        return "the exact negative log-likelihood of a language model, in nats"
    name = {"elbo": "-ELBO", "iw": "IW-NLL", "rec": "rec, -log p(x|z)"}[scores.by]
    return f"{name} in nats, from {scores.samples} sample{'' if scores.samples == 1 else 's'} of z for each sentence"


def _as_columns(scores: "Scores", texts: list[str]) -> Iterator[str]:
    rows = zip(scores.nats, scores.nats_per_token, scores.tokens, texts, strict=True)
    for nats, per_token, tokens, text in rows:
        yield f"{nats:.4f}\t{per_token:.4f}\t{tokens}\t{text}"


def _as_json(scores: "Scores", texts: list[str]) -> Iterator[dict[str, Any]]:
    for row, text in enumerate(texts):
        parts = {name: getattr(scores, name) for name in ("rec", "kl", "elbo", "iw")}
        yield {
            "nats": scores.nats[row],
            "nats_per_token": scores.nats_per_token[row],
            "tokens": scores.tokens[row],
            "by": scores.by,
            **{name: values[row] for name, values in parts.items() if values is not None},
            "text": text,
        }
