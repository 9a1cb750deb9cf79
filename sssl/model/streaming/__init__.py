"""Scoring on GPUs: parts are read and written in threads, and computed in batches across parts and
members."""
