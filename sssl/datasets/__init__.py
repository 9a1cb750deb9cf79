"""Catalogs of published data sets, and the synthesized one of the demo."""
