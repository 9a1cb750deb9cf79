"""Semi-supervised self-learning on music emotion labels: audio to log-mel, model to labels. No Beam in here."""

__version__ = "0.1.0"

from sssl.api import Output, Unlabelled, label, open  # noqa: A004 -- read as `sssl.open`

__all__ = ["Output", "Unlabelled", "__version__", "label", "open"]
