"""Pretrained networks as front-ends: an embedding for each segment."""
