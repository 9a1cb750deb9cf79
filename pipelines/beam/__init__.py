"""Beam: a job over parts, its wiring and its execution."""
