"""The training loop, its settings, its state and its loggers."""
