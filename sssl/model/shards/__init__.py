"""Labelled features as shuffled shards, for more of them than fit into memory."""
