"""Figures, and what else is drawn of the tables."""
