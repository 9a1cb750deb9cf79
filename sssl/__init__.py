"""Semi-supervised self-learning on music emotion labels: audio to log-mel, model to labels. No Beam in here."""

__version__ = "0.1.0"
