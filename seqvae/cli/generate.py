"""``seqvae sample``, ``interpolate`` and ``reconstruct``."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from seqvae.cli.console import emit_json, emit_lines, run_verb
from seqvae.cli.options import DeviceOption, JsonOption, ModelOption, SeedOption, chosen_seed, load_model
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.generation.decoding import DecodeConfig

GreedyOption = Annotated[bool, typer.Option("--greedy", help="Write the likeliest token at each step.")]
BeamOption = Annotated[int | None, typer.Option("--beam", metavar="K", help="Beam search with K hypotheses.")]
UnkOption = Annotated[bool, typer.Option("--allow-unk", help="Let <unk> be written.")]
TemperatureOption = Annotated[
    float | None, typer.Option("--temperature", help="Draw tokens, logits divided by this [default: 1].")
]
TopKOption = Annotated[int | None, typer.Option("--top-k", help="Draw from the K likeliest tokens.")]
TopPOption = Annotated[
    float | None, typer.Option("--top-p", help="Draw from the likeliest tokens that hold this probability.")
]
LengthOption = Annotated[int, typer.Option("--max-length", help="Most tokens in a sentence.")]


def _decoding(
    *, default: Literal["greedy", "sample"], greedy: bool, beam: int | None, allow_unk: bool, max_length: int, **drawn
) -> "DecodeConfig":
    """The decoding that the options ask for; options that contradict each other are refused."""
    from seqvae.generation.decoding import DecodeConfig

    given = {name: value for name, value in drawn.items() if value is not None}
    asked = {"greedy": greedy, "beam": beam is not None, "sample": bool(given)}
    wanted = [name for name, is_asked in asked.items() if is_asked]
    if len(wanted) > 1:
        options = {"greedy": "--greedy", "beam": "--beam", "sample": "--" + next(iter(given), "").replace("_", "-")}
        what = f"{options[wanted[0]]} and {options[wanted[1]]} contradict each other"
        raise SeqVAEError("E215", what, hint="--greedy and --beam draw nothing; leave one of the two away")
    if beam is not None:
        given["beam_size"] = beam
    strategy = wanted[0] if wanted else default
    return DecodeConfig(strategy=strategy, allow_unk=allow_unk, max_length=max_length, **given)


@run_verb()
def sample(
    n: Annotated[int, typer.Option("-n", "--number", min=0, help="How many sentences.")] = 10,
    model: ModelOption = None,
    source: Annotated[Literal["prior", "aggregate"], typer.Option("--from", help="Where codes come from.")] = "prior",
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
    """Write sentences from codes drawn from the prior: one line each on stdout.

    Tokens are drawn from the model at temperature 1 (ancestral sampling) unless an option says otherwise.
    """
    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    config = _decoding(default="sample", greedy=greedy, beam=beam, allow_unk=allow_unk, max_length=max_length, **drawn)
    vae = load_model(model, device)
    texts = vae.sample(n, seed=chosen_seed(seed), config=config)
    _emit([{"text": text} for text in texts], json)


@run_verb()
def interpolate(
    a: Annotated[str, typer.Argument(help="The sentence to start from.")],
    b: Annotated[str, typer.Argument(help="The sentence to end at.")],
    model: ModelOption = None,
    steps: Annotated[int, typer.Option(min=1, help="Points on the way, both ends included.")] = 8,
    path: Annotated[Literal["slerp", "lerp"], typer.Option(help="Along a great circle, or straight.")] = "slerp",
    beam: BeamOption = None,
    allow_unk: UnkOption = False,
    max_length: LengthOption = 200,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Walk from one sentence to another through the latent space. The ends are reconstructions of the two sentences."""
    config = _decoding(default="greedy", greedy=False, beam=beam, allow_unk=allow_unk, max_length=max_length)
    points = load_model(model, device).interpolate(a, b, steps, path=path, config=config)
    if json:
        emit_json([{"t": t, "text": text} for t, text in points])
    else:
        emit_lines(f"{t:.2f}  {text}" for t, text in points)


@run_verb()
def reconstruct(
    texts: Annotated[list[str], typer.Argument(help="Sentences.")],
    model: ModelOption = None,
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
    """Send sentences through their latent code and back (posterior mean, greedy unless an option says otherwise)."""
    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    config = _decoding(default="greedy", greedy=False, beam=beam, allow_unk=allow_unk, max_length=max_length, **drawn)
    vae = load_model(model, device)
    back = vae.reconstruct(texts, config=config, seed=chosen_seed(seed) if config.strategy == "sample" else 0)
    _emit([{"text": text} for text in back], json)


def _emit(rows: list[dict[str, str]], json: bool) -> None:
    if json:
        emit_json(rows)
    else:
        emit_lines(row["text"] for row in rows)
