"""``seqvae neighbors``, ``analogy``, ``traverse`` and ``shift``: what the latent space knows."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqvae.bounds import MOST_SENTENCES
from seqvae.cli.console import emit_json, emit_json_list, emit_lines, emit_texts, run_verb, say
from seqvae.cli.options import (
    COLUMN_AND_LABELS,
    BeamOption,
    DeviceOption,
    JsonOption,
    LabelOption,
    LengthOption,
    ModelOption,
    Split,
    UnkOption,
    decoding,
    load_model,
    read_sentences,
    run_config,
    tell_unknown_words,
)
from seqvae.cli.sentences import ColumnOption, Piece, Sentences, TextsArgument, as_sentences
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.data.store import TokenStore
    from seqvae.generation.attributes import Dims, Direction, Walk
    from seqvae.generation.decoding import DecodeConfig
    from seqvae.textvae import TextVAE

BESIDE_A_CORPUS = "write TEXT..., or `-` for stdin; `--input` names the corpus here"

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)

CorpusOption = Annotated[
    Path | None,
    typer.Option("--input", metavar="FILE", help="The corpus.", show_default="the model's own text"),
]
SplitOption = Annotated[Split, typer.Option(help="Part of the model's own text that is the corpus.")]
SentenceArgument = Annotated[str, typer.Argument(metavar="TEXT", help="A sentence.")]


@run_verb()
def neighbors(
    texts: TextsArgument = None,
    n: Annotated[
        int, typer.Option("-n", "--number", metavar="N", min=0, max=MOST_SENTENCES, help="How many for each sentence.")
    ] = 10,
    by: Annotated[
        Literal["cosine", "euclidean"],
        typer.Option(help="cosine between posterior means, 1 at most; euclidean: their distance, 0 at least."),
    ] = "cosine",
    file: CorpusOption = None,
    column: ColumnOption = None,
    split: SplitOption = "train",
    model: ModelOption = None,
    label: LabelOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Find the sentences of a corpus whose latent codes lie nearest to that of a sentence, nearest first.

    Each line on stdout has the score, the line in the corpus and the sentence, with tabs between them; with several
    sentences, those found for each stand under it. All of the corpus is compared; a sentence that it has several times
    is found once. Put `--` before sentences that begin with a dash.
    """
    queries = Sentences(texts, ways=BESIDE_A_CORPUS)
    vae, folder = load_model(model, device)
    vae.need_latent("look for neighbours")
    store = read_sentences(folder, vae, split, file, text_column=column)
    found: list[dict[str, Any]] = []
    for piece in queries.pieces(vae):
        corpus_label = label if store.labels is None else None
        near = vae.neighbors(piece.store, store, n, by=by, label=label, corpus_label=corpus_label)
        found += [{"text": text, "neighbors": each} for text, each in zip(piece.texts, near, strict=True)]
    say(f"corpus   {len(store):,} sentences; {'cosine between' if by == 'cosine' else 'distance of'} posterior means")
    if json:
        emit_json([each | {"neighbors": [asdict(one) for one in each["neighbors"]]} for each in found])
        return
    for each in found:
        if len(found) > 1:
            emit_lines([each["text"]])
        lead = "  " if len(found) > 1 else ""
        emit_lines(f"{lead}{one.score:.4f}\t{one.line}\t{one.text}" for one in each["neighbors"])


@run_verb()
def analogy(
    a: Annotated[str, typer.Argument(metavar="A", help="A sentence,")],
    b: Annotated[str, typer.Argument(metavar="B", help="what became of it,")],
    c: Annotated[str, typer.Argument(metavar="C", help="and one that shall become so too.")],
    model: ModelOption = None,
    label: LabelOption = None,
    beam: BeamOption = None,
    allow_unk: UnkOption = False,
    max_length: LengthOption = 200,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write what is to C as B is to A: the sentence at the code b - a + c.

    On a sphere, b - a + c is scaled back to length 1. Greedy unless --beam is given. Put `--` before sentences that
    begin with a dash.
    """
    config = decoding(default="greedy", greedy=False, beam=beam, allow_unk=allow_unk, max_length=max_length)
    a, b, c = as_sentences([a, b, c])
    vae, _ = load_model(model, device)
    vae.need_latent("make an analogy")
    tell_unknown_words(vae, [a, b, c])
    text = vae.analogy(a, b, c, config=config, label=label)
    if json:
        emit_json({"text": text})
    else:
        emit_texts([text], as_json=False)


@run_verb()
def traverse(
    text: SentenceArgument,
    dims: Annotated[
        list[str] | None,
        typer.Option(
            "--dim", metavar="N", help="A dimension from 0, active or all; may be repeated.", show_default="active"
        ),
    ] = None,
    reach: Annotated[
        float, typer.Option("--range", metavar="R", min=0, help="From -R to +R deviations of the corpus.")
    ] = 3.0,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Points on the way, both ends included.")] = 7,
    file: CorpusOption = None,
    column: ColumnOption = None,
    split: SplitOption = "train",
    model: ModelOption = None,
    label: LabelOption = None,
    beam: BeamOption = None,
    allow_unk: UnkOption = False,
    max_length: LengthOption = 200,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Walk along single latent dimensions of a sentence, the others kept.

    At place t the dimension has the value mean + t * deviation, of the codes of a corpus (of 20,000 sentences of it at
    most): the noise of the codes is part of the deviation where the model has it by dimension. Each line on stdout is
    dimension, t and the sentence there. A dimension is active where its posterior mean varies by 0.01 or more. On a
    sphere, the other coordinates keep the length 1.
    """
    config = decoding(default="greedy", greedy=False, beam=beam, allow_unk=allow_unk, max_length=max_length)
    chosen = _dims(dims or ["active"])
    (text,) = as_sentences([text])
    vae, folder = load_model(model, device)
    vae.need_latent("walk along a dimension")
    tell_unknown_words(vae, [text])
    store = read_sentences(folder, vae, split, file, text_column=column)
    spread = vae.spread(store, label=label if store.labels is None else None)
    walks = vae.traverse(text, spread, chosen, reach=reach, steps=steps, config=config, label=label)
    active = "" if spread.active is None else f"; {len(spread.active)} of {vae.latent_dim} dimensions are active"
    say(f"corpus   deviations of {spread.sentences:,} sentences{active}")
    if json:
        emit_json([_walk_as_json(each, texts) for each, texts in walks])
        return
    for each, texts in walks:
        say(f"dim {each.dim:<4} the sentence itself is at {each.own:+.2f}")
        emit_lines(f"{each.dim}\t{t:+.2f}\t{written}" for t, written in zip(each.t, texts, strict=True))


def _dims(names: list[str]) -> "Dims":
    if names in (["active"], ["all"]):
        return names[0]
    wrong = next((name for name in names if not name.isdecimal()), None)
    if wrong is not None:
        what = f"`--dim {wrong}` is no dimension" if wrong not in ("active", "all") else f"`--dim {wrong}` stands alone"
        raise SeqVAEError("E297", what, hint="give numbers from 0, or once `--dim active` or `--dim all`")
    return [int(name) for name in names]


def _walk_as_json(walk: "Walk", texts: list[str]) -> dict[str, Any]:
    points = [
        {"t": t, "value": float(z[walk.dim]), "text": text} for t, z, text in zip(walk.t, walk.z, texts, strict=True)
    ]
    return {"dim": walk.dim, "mean": walk.mean, "deviation": walk.deviation, "own": walk.own, "points": points}


@run_verb()
def shift(
    toward: Annotated[str, typer.Option("--toward", metavar="LABEL", help="The label to go to.")],
    texts: TextsArgument = None,
    by: Annotated[
        list[float] | None,
        typer.Option(
            "--by",
            metavar="S",
            help="Strength: 1 goes as far as from the other sentences to those with the label; may be repeated.",
            show_default=", ".join(f"{each:g}" for each in STRENGTHS),
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="Labels from FILE.WORD.labels beside the text.",
            show_default="those of the run, else FILE.labels",
        ),
    ] = None,
    file: CorpusOption = None,
    column: ColumnOption = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the table that holds the labels.")
    ] = None,
    split: SplitOption = "train",
    model: ModelOption = None,
    beam: BeamOption = None,
    allow_unk: UnkOption = False,
    max_length: LengthOption = 200,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Move sentences toward a label: their codes, plus a direction that labelled sentences give.

    The direction is the mean code of the sentences of a corpus that have the label, minus the mean code of the others
    (of 20,000 sentences at most). Each line on stdout is a strength and the sentence there; strength 0 is the
    reconstruction. On a sphere, codes are scaled back to length 1. Put `--` before sentences that begin with a dash.
    """
    config = decoding(default="greedy", greedy=False, beam=beam, allow_unk=allow_unk, max_length=max_length)
    sentences = Sentences(texts, ways=BESIDE_A_CORPUS)
    vae, folder = load_model(model, device)
    vae.need_latent("shift sentences")
    store = _labelled(vae, folder, split, file, text_column=column, label_column=label_column, labels=labels)
    direction = vae.direction(toward, store)
    strengths = by or STRENGTHS
    say(f"label    {direction.having:,} sentences with {toward!r}, {direction.others:,} with other labels")
    found = (way for piece in sentences.pieces(vae) for way in _ways(vae, piece, direction, strengths, config))
    if json:
        emit_json_list(found)
        return
    for way in found:
        if len(sentences.arguments) != 1:
            emit_lines([way["text"]])
        emit_lines(f"{point['by']:+.2f}\t{point['text']}" for point in way["points"])


def _ways(
    vae: "TextVAE", piece: Piece, direction: "Direction", strengths: Sequence[float], config: "DecodeConfig"
) -> Iterator[dict[str, Any]]:
    """Each sentence with what becomes of it at each strength."""
    written = [vae.shift(piece.store, direction, by, config=config) for by in strengths]
    for text, *others in zip(piece.texts, *written, strict=True):
        points = [{"by": by, "text": other} for by, other in zip(strengths, others, strict=True)]
        yield {"text": text, "points": points}


def _labelled(
    vae: "TextVAE", folder: Path, split: Split, file: Path | None, **reading: str | bool | None
) -> "TokenStore":
    """The corpus with its labels: those that the options name, or those of the run, or of the file beside the text."""
    from seqvae.generation.attributes import refuse_conditional

    refuse_conditional(vae.model)
    named = any(reading[name] is not None for name in ("labels", "label_column"))
    config = None if file is not None else run_config(folder)
    if not named and not (config and (config.data.labels or config.data.label_column)):
        reading["labels"] = True
    try:
        return read_sentences(folder, vae, split, file, options=COLUMN_AND_LABELS, **reading)
    except SeqVAEError as error:
        if error.code != "E223" or named:
            raise
        hint = "name the column of the table with `--label-column`"
        raise SeqVAEError("E346", "the text has no labels", where=str(file or folder), hint=hint) from None
