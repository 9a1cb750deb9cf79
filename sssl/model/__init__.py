"""Segment classifiers: networks, examples, training and scoring."""
