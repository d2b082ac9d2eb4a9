"""``seqvae sample``, ``interpolate`` and ``reconstruct``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from seqvae.bounds import MOST_SENTENCES
from seqvae.cli.console import emit_json, emit_lines, emit_texts, run_verb, say
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
    chosen_seed,
    decoding,
    drawing_generator,
    labels_of_input,
    load_model,
    read_sentences,
    tell_unknown_words,
)
from seqvae.cli.sentences import ColumnOption, InputOption, Sentences, TextsArgument, as_sentences, refuse_column_alone
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.generation.aggregate import Aggregate
    from seqvae.textvae import TextVAE


@run_verb()
def sample(
    n: Annotated[
        int, typer.Option("-n", "--number", metavar="N", min=0, max=MOST_SENTENCES, help="How many sentences.")
    ] = 10,
    model: ModelOption = None,
    source: Annotated[
        Literal["prior", "aggregate"] | None,
        typer.Option(
            "--from",
            help="prior: p(z); aggregate: a Gaussian mixture fitted to the codes of a text.",
            show_default="prior; aggregate for a plain autoencoder, which has no prior",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--input", metavar="FILE", help="Text for --from aggregate.", show_default="the model's training text"
        ),
    ] = None,
    column: ColumnOption = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Label of the sentences, for a conditional model.", show_default="drawn for each"
        ),
    ] = None,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    greedy: GreedyOption = False,
    beam: BeamOption = None,
    allow_unk: UnkOption = False,
    max_length: LengthOption = 200,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write new sentences, from codes drawn from the prior or from a mixture fitted to the codes of a text.

    One line each on stdout. Tokens are drawn from the model as it is (temperature 1) unless an option says otherwise.
    """
    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    config = decoding(default="sample", greedy=greedy, beam=beam, allow_unk=allow_unk, max_length=max_length, **drawn)
    refuse_column_alone(column, file)
    vae, folder = load_model(model, device)
    if source is None:
        source = "aggregate" if vae.noiseless else "prior"
        if vae.noiseless:
            say("note     a plain autoencoder has no prior: its samples come from a mixture fitted to its codes")
    if file is not None and source == "prior":
        hint = "add `--from aggregate`, or leave --input away"
        raise SeqVAEError("E215", "--input and --from prior contradict each other", hint=hint)
    if label is None and vae.labels is not None:
        say(f"labels   drawn, each as often as the others; --label takes one of: {', '.join(vae.labels)}")
    seed = chosen_seed(seed)
    mixture = _fit_aggregate(vae, folder, file, column, label, seed) if source == "aggregate" else None
    emit_texts(vae.sample(n, source=mixture, seed=seed, config=config, label=label), as_json=json)


def _fit_aggregate(
    vae: "TextVAE", folder: Path, file: Path | None, column: str | None, label: str | None, seed: int
) -> "Aggregate":
    """To ``file``, all of it with the label that is given, else with the labels that it has."""
    label = None if file is None else label
    reading = {}
    if label is None:
        reading = labels_of_input(folder, vae, file, otherwise=", or name one for all by `--label`")
    store = read_sentences(folder, vae, "train", file, text_column=column, **reading)
    mixture = vae.fit_aggregate(store, seed=seed, label=label)
    codes = "means" if vae.noiseless else "draws"
    text = "the training text" if file is None else file
    count = f"{len(mixture.weights)} Gaussian" + ("s" if len(mixture.weights) > 1 else "")
    say(f"codes    from {count}, fitted to the posterior {codes} of {mixture.sentences:,} sentences of {text}")
    return mixture


@run_verb()
def interpolate(
    a: Annotated[str, typer.Argument(metavar="A", help="The sentence to start from.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The sentence to end at.")],
    model: ModelOption = None,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Points on the way, both ends included.")] = 8,
    path: Annotated[
        Literal["slerp", "lerp"], typer.Option(help="slerp: along a great circle; lerp: straight.")
    ] = "slerp",
    label: LabelOption = None,
    beam: BeamOption = None,
    allow_unk: UnkOption = False,
    max_length: LengthOption = 200,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Walk from one sentence to another through the latent space.

    Each line on stdout is a place t between 0 and 1 and the sentence there, greedy unless --beam is given. The ends are
    reconstructions of the two sentences. Put `--` before sentences that begin with a dash.
    """
    config = decoding(default="greedy", greedy=False, beam=beam, allow_unk=allow_unk, max_length=max_length)
    a, b = as_sentences([a, b])
    vae, _ = load_model(model, device)
    tell_unknown_words(vae, [a, b])
    points = vae.interpolate(a, b, steps, path=path, config=config, label=label)
    if json:
        emit_json([{"t": t, "text": text} for t, text in points])
    else:
        emit_lines(f"{t:.2f}  {text}" for t, text in points)


@run_verb()
def reconstruct(
    texts: TextsArgument = None,
    file: InputOption = None,
    column: ColumnOption = None,
    model: ModelOption = None,
    label: LabelOption = None,
    greedy: GreedyOption = False,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    beam: BeamOption = None,
    allow_unk: UnkOption = False,
    max_length: LengthOption = 200,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Send sentences through their latent code and back.

    One line each on stdout: what the decoder writes from the posterior mean, greedy unless an option says otherwise.
    Lines are parallel: a blank one is an empty sentence. Put `--` before sentences that begin with a dash.
    """
    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    config = decoding(default="greedy", greedy=greedy, beam=beam, allow_unk=allow_unk, max_length=max_length, **drawn)
    sentences = Sentences(texts, file, column)
    vae, _ = load_model(model, device)
    vae.need_latent("reconstruct")
    generator = drawing_generator(seed, config)
    written = (
        vae.reconstruct(piece.store, config=config, seed=generator, label=label) for piece in sentences.pieces(vae)
    )
    emit_texts((text for texts in written for text in texts), as_json=json)
