"""Training methods against posterior collapse: one file each, found by scanning this folder."""
