"""A model as ONNX: encoder, start and step of the decoder, to be used without PyTorch and without seqvae."""

import copy
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import seqvae
from seqvae.errors import SeqVAEError
from seqvae.io import disk, manifests, storage
from seqvae.io.pretrained import TOKENIZER
from seqvae.models.decoder import State
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.models.vae import SeqVAE
from seqvae.textvae import TextVAE
from seqvae.types import BOS, EOS, PAD, UNK, Batch

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

DESCRIPTION = "onnx.json"
OPSET = 17
TOLERANCE = 1e-5
"""Of every number against PyTorch's: as it is up to 1, and relative beyond."""

_LENGTHS = ((2,), (3, 2), (5, 2, 7, 4, 11))
"""The sentences of the batches that are compared, in tokens; one of two tokens is empty. The last batch is traced."""
_STEPS = 3
_BY_DIMENSION = ("gaussian", "batchnorm", "delta")
"""Families whose q(z|x) is a diagonal Gaussian: a mean and a logvar are all of it."""

Named = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One file: what it computes, and its inputs and outputs with the names of their axes."""

    name: str
    compute: Callable[..., tuple[Tensor, ...]]
    """Of the inputs by name."""
    inputs: Mapping[str, Sequence[str]]
    outputs: Mapping[str, Sequence[str]]

    @property
    def file(self) -> str:
        return f"{self.name}.onnx"

    def of(self, known: Named) -> dict[str, Tensor]:
        """The outputs by name, as PyTorch computes them."""
        found = self.compute(**{name: known[name] for name in self.inputs})
        return dict(zip(self.outputs, found, strict=True))


def export_onnx(vae: TextVAE, folder: Path) -> dict[str, Any]:
    """Write a model as ONNX into ``folder``, atomically, with its tokenizer; gives what ``onnx.json`` there says.

    Each graph is run by onnxruntime over batches of several sizes and lengths, and nothing is written unless it gives
    what PyTorch gives, to 1e-5. Of a posterior that is no diagonal Gaussian (``vmf``, ``iaf``) the mean alone is there.

    Errors (SeqVAEError): E441 for a model that no graph can hold, E442 without the extra, E443 where ``folder`` holds
    something else, E444 where a graph does not do what the model does.
    """
    _need_extra()
    if vae.model.refiners:
        what = f"`{vae.model.refiners[0].config.name}` improves every code by gradient steps, which a graph cannot hold"
        raise SeqVAEError("E441", what, hint="export a model that was trained without it")
    storage.check_replaceable(folder, DESCRIPTION)
    model = copy.deepcopy(vae.model).cpu().eval()
    graphs, traceable = list(graphs_of(model)), _traceable(model)
    with torch.no_grad(), storage.atomic_folder(folder) as temporary:
        *_, largest = batches = [_example(model, lengths) for lengths in _LENGTHS]
        for graph in graphs_of(traceable):
            _write(traceable, graph, largest, temporary / graph.file)
        difference = max(_difference(graph, batch, temporary) for batch in batches for graph in graphs)
        vae.tokenizer.save(temporary / TOKENIZER)
        description = _description(vae, graphs, difference)
        disk.write_json(temporary / DESCRIPTION, description)
    return description


def graphs_of(model: SeqVAE) -> Iterator[Graph]:
    """The graphs of a model; a language model has its step alone, and starts from a state of zeros."""
    labels = {} if model.labels is None else {"labels": ("batch",)}
    code = {"z": ("batch", "latent")} if model.latent_dim > 0 else {}
    names = ("h", "c") if model.config.decoder.cell == "lstm" else ("h",)
    state = {name: ("layers", "batch", "hidden") for name in names}

    def encode(tokens: Tensor, lengths: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        q = model.amortised(Batch(tokens=tokens, lengths=lengths, rows=lengths, labels=labels))
        return (q.mean, q.logvar) if isinstance(q, GaussianPosterior) else (q.mean,)

    def read(z: Tensor, labels: Tensor | None) -> Tensor:
        return model.decoder_input(z[None], labels)[0]

    def start(z: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        return model.decoder.start(read(z, labels)).parts()

    def step(
        token: Tensor, z: Tensor | None = None, labels: Tensor | None = None, **state: Tensor
    ) -> tuple[Tensor, ...]:
        z = state["h"].new_zeros(token.shape[0], 0) if z is None else z
        logits, after = model.decoder.step(token, read(z, labels), State(**state))
        return logits, *after.parts()

    if model.latent_dim > 0:
        told = ("mean", "logvar") if model.config.posterior.family in _BY_DIMENSION else ("mean",)
        sentences = {"tokens": ("batch", "length"), "lengths": ("batch",)}
        outputs = {name: ("batch", "latent") for name in told}
        yield Graph(name="encoder", compute=encode, inputs=sentences | labels, outputs=outputs)
        yield Graph(name="decoder_start", compute=start, inputs=code | labels, outputs=state)
    yield Graph(
        name="decoder_step",
        compute=step,
        inputs={"token": ("batch",)} | code | labels | state,
        outputs={"logits": ("batch", "vocabulary")} | {f"{name}_next": axes for name, axes in state.items()},
    )


class _Normalised(nn.Module):
    """Batch normalisation as it is in use: the exporter does not know the number of dimensions of its own node."""

    def __init__(self, norm: nn.BatchNorm1d):
        super().__init__()
        self.norm = norm

    def forward(self, values: Float[Tensor, "B Z"]) -> Float[Tensor, "B Z"]:
        return (values - self.norm.running_mean) / torch.sqrt(self.norm.running_var + self.norm.eps)


def _traceable(model: SeqVAE) -> SeqVAE:
    """The same model, of what can be traced."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm1d):
                setattr(module, name, _Normalised(child))
    return model


class _Traced(nn.Module):
    """The exporter wants a module whose inputs have places and not names."""

    def __init__(self, model: SeqVAE, graph: Graph):
        super().__init__()
        self.model, self.graph = model, graph

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        return self.graph.compute(**dict(zip(self.graph.inputs, given, strict=True)))


def _write(model: SeqVAE, graph: Graph, example: Named, path: Path) -> None:
    """Trace one graph.

    The exporter that begins with `torch.export` took forty times as long, and its encoder failed on a batch of one
    sentence (torch 2.13); this one leaves a recurrent layer one node too.
    """
    free = {
        name: {place: axis for place, axis in enumerate(axes) if axis in ("batch", "length")}
        for name, axes in {**graph.inputs, **graph.outputs}.items()
    }
    content = io.BytesIO()
    with warnings.catch_warnings():
        # That it is the older exporter, and what tracing would miss: both are compared below.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                _Traced(model, graph).eval(),
                tuple(example[name] for name in graph.inputs),
                content,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_axes=free,
                opset_version=OPSET,
                dynamo=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            first = next(iter(str(error).splitlines()), "")
            what = f"{graph.file} cannot be made of this model: {first}"
            raise SeqVAEError("E441", what, hint="try another release of torch, and please report it") from error
    path.write_bytes(content.getvalue())  # torch itself takes no path that is not UTF-8


def _example(model: SeqVAE, lengths: Sequence[int]) -> dict[str, Tensor]:
    """Random values for every input there is: sentences of these lengths, and codes and states for as many."""
    generator = torch.Generator().manual_seed(len(lengths))
    count, decoder = len(lengths), model.config.decoder

    def below(limit: int, *shape: int) -> Int[Tensor, "..."]:
        return torch.randint(limit, shape, generator=generator)

    def normal(*shape: int) -> Float[Tensor, "..."]:
        return torch.randn(shape, generator=generator)

    tokens = below(model.vocab_size, count, max(lengths))
    tokens[:, 0] = BOS
    for row, length in enumerate(lengths):
        tokens[row, length - 1], tokens[row, length:] = EOS, PAD
    return {
        "tokens": tokens,
        "lengths": torch.tensor(lengths),
        "token": below(model.vocab_size, count),
        "z": normal(count, model.latent_dim),
        "h": torch.tanh(normal(decoder.layers, count, decoder.hidden)),
        "c": normal(decoder.layers, count, decoder.hidden),
        "labels": below(len(model.labels or "-"), count),
    }


def _difference(graph: Graph, batch: Named, folder: Path) -> float:
    """The largest difference between onnxruntime and PyTorch, relative beyond 1; E444 where it is above TOLERANCE."""
    session, worst = session_of(folder / graph.file), 0.0
    for _ in range(_STEPS if "h" in graph.inputs else 1):
        expected = graph.of(batch)
        found = session.run(list(expected), {name: batch[name].numpy() for name in graph.inputs})
        for name, array in zip(expected, found, strict=True):
            wanted = expected[name]
            apart = (torch.from_numpy(array) - wanted).abs() / wanted.abs().clamp_min(1)
            if array.shape != wanted.shape or not bool((apart <= TOLERANCE).all()):
                what = f"`{name}` of {graph.file} is not what the model gives, by {float(apart.max()):.1e}"
                hint = "try another release of onnxruntime or torch, and please report it"
                raise SeqVAEError("E444", what, hint=hint)
            worst = max(worst, float(apart.max()))
        after = {name.removesuffix("_next"): value for name, value in expected.items() if name.endswith("_next")}
        batch = {**batch, **after}
    return worst


def session_of(path: Path) -> "InferenceSession":
    """A graph, ready to be run on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; what it says of its own optimisations is no one's concern
    content = path.read_bytes()  # it takes no path that is not UTF-8, as torch does not
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _description(vae: TextVAE, graphs: Sequence[Graph], difference: float) -> dict[str, Any]:
    model, decoder = vae.model, vae.model.config.decoder
    return {
        "schema_version": manifests.SCHEMA_VERSION,
        "seqvae_version": seqvae.__version__,
        "opset": OPSET,
        "sizes": {
            "latent": model.latent_dim,
            "vocabulary": model.vocab_size,
            "layers": decoder.layers,
            "hidden": decoder.hidden,
        },
        "specials": {"pad": PAD, "bos": BOS, "eos": EOS, "unk": UNK},
        "labels": model.labels,
        "posterior": model.config.posterior.family if model.latent_dim > 0 else None,
        "noiseless": vae.noiseless,
        "graphs": {
            graph.name: {"file": graph.file, "inputs": graph.inputs, "outputs": graph.outputs} for graph in graphs
        },
        "largest_difference": difference,
    }


def _need_extra() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        hint = "install what it needs: `pip install 'seqvae[onnx]'`"
        raise SeqVAEError("E442", f"ONNX cannot be written: {error}", hint=hint) from None
