"""The files of a run folder, by name."""

CONFIG, PROVENANCE, METRICS, LOG = "config.yaml", "provenance.json", "metrics.jsonl", "log.txt"
CHECKPOINTS, MODEL, TOKENIZER, DIVERGED = "checkpoints", "model", "tokenizer", "diverged"
TENSORBOARD, WANDB = "tensorboard", "wandb"
