"""The model card: README.md of a model folder."""

from collections.abc import Mapping
from typing import Any

from seqvae.textvae import TextVAE

_TEMPLATE = """# A seqvae model

{kind}. Vocabulary {vocab:,}, {parameters:,} parameters.

```python
import seqvae

vae = seqvae.load("path/to/this/folder")
{usage}
```

## Training

| | |
|---|---|
{facts}

Nats are per sentence. "-ELBO" is rec + KL with one sample of z on the validation split; `seqvae eval` measures the
tighter importance-weighted bound, mutual information and the rest.

The folder holds safetensors, JSON and this page: loading it runs no code from it.
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
        usage += ['vae.interpolate("one sentence", "another", steps=5)', 'vae.encode(["a sentence"]).mean']
    rows = [f"| {name} | {_shown(value)} |" for name, value in facts.items()]
    return _TEMPLATE.format(
        kind=kind,
        vocab=vae.model.vocab_size,
        parameters=sum(parameter.numel() for parameter in vae.model.parameters()),
        usage="\n".join(usage),
        facts="\n".join(rows),
    )


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
