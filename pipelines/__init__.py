"""Beam pipelines and the commands that run them."""
