"""Figures of runs and models, drawn by matplotlib (the extra ``plots``) without a screen."""
