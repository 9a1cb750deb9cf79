"""Flags, messages and progress on the terminal."""
