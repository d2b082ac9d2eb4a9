"""The text that the explorer is tested on."""

import random
from pathlib import Path

CONFIG = """\
data: {train: train.txt, valid: valid.txt, batch_size: 20}
model:
  latent_dim: 5
  encoder: {embedding: 7, hidden: 11}
  decoder: {embedding: 7, hidden: 13}
objective: {strategies: [{name: free_bits, nats_per_dim: 0.5}]}
train: {epochs: 12, log_every: 5, device: cpu, threads: 1, optimizer: {name: adamw, lr: 0.02}}
eval: {iw_samples: 3}
"""

ATTACK = "<script>document.title='owned'</script> <img src=x onerror=document.title='owned'>"
"""A line of the corpus that would change the title of a page which reads it as markup."""

SENTENCES = 240


def write_corpus(folder: Path) -> None:
    """Text with one sentence of markup in it, and labels of two kinds, one of whose names is markup too."""
    draw = random.Random(3)
    parts = ("the cat", "a dog", "my friend", "she"), ("saw", "liked", "ate"), ("a cake", "some tea"), ("", "at night")
    lines = [" ".join(filter(None, map(draw.choice, parts))) for _ in range(SENTENCES - 1)]
    lines.insert(100, ATTACK)
    (folder / "train.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "valid.txt").write_text("".join(f"{line}\n" for line in lines[:30]), encoding="utf-8")
    who = ["markup" if line == ATTACK else line.split()[0] for line in lines]
    meal = ["<b>drink</b>" if "tea" in line else "food" for line in lines]
    for name, labels in (("who", who), ("meal", meal)):
        (folder / f"train.{name}.labels").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    (folder / "small.yaml").write_text(CONFIG, encoding="utf-8")
