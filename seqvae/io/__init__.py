"""Reading and writing on disk: atomic folders, tensors and JSON without pickle."""
