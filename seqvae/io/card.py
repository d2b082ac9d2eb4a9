"""The model card: README.md of a model folder, with what the Hub reads of it at its head."""

from collections.abc import Mapping
from typing import Any

from seqvae.textvae import TextVAE

FILE = "README.md"

_HERE = "path/to/this/folder"
"""Where the model is, as long as nobody knows."""

_HEAD = """---
library_name: seqvae
tags:
{tags}
---

"""
"""What the Hub lists and finds a model by. Licence and language are the owner's to add."""

_TEMPLATE = """{head}# A seqvae model

{kind}. Vocabulary {vocab:,}, {parameters:,} parameters.

```python
import seqvae

vae = seqvae.load("{place}")
{usage}
```
{training}
The folder holds safetensors, JSON and this page: loading it runs no code from it.
"""

_TRAINING = """
## Training

| | |
|---|---|
{facts}

Nats are per sentence. "-ELBO" is rec + KL with one sample of z on the validation split; `seqvae eval` measures the
tighter importance-weighted bound, mutual information and the rest.
"""


def model_card(vae: TextVAE, facts: Mapping[str, Any]) -> str:
    """A page that says what the model is, how to use it, and ``facts`` about its training."""
    usage, cells = ["vae.sample(5)"], vae.model.config.cells
    if vae.latent_dim == 0:
        kind = f"{'A GRU' if cells == 'GRU' else 'An LSTM'} language model"
    else:
        kind = f"{'An autoencoder' if vae.noiseless else 'A variational autoencoder'} over sentences"
        kind += f" ({cells}) with {vae.latent_dim} latent dimensions"
        usage = [] if vae.noiseless else usage
        label = f", label={vae.labels[0]!r}" if vae.labels else ""
        usage += [
            f'vae.interpolate("one sentence", "another", steps=5{label})',
            f'vae.encode(["a sentence"]{label}).mean',
        ]
    facts = "\n".join(f"| {name} | {_shown(value)} |" for name, value in facts.items())
    return _TEMPLATE.format(
        head=_head(
            f"{'language-model' if vae.latent_dim == 0 else 'variational-autoencoder'}", *cells.lower().split("-")
        ),
        kind=kind,
        place=_HERE,
        vocab=vae.model.vocab_size,
        parameters=sum(parameter.numel() for parameter in vae.model.parameters()),
        usage="\n".join(usage),
        training=_TRAINING.format(facts=facts) if facts else "",
    )


def for_hub(text: str, name: str) -> str:
    """A card that loads the model by its name on the Hub, and says at its head what it is."""
    return ("" if text.startswith("---\n") else _head()) + text.replace(_HERE, name)


def _head(*tags: str) -> str:
    return _HEAD.format(tags="\n".join(f"  - {tag}" for tag in ("seqvae", "text", *tags)))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
