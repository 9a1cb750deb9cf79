"""Semi-supervised self-learning on music emotion labels: audio to log-mel, model to labels. No Beam
in here."""

from sssl.api import Output, label, open  # noqa: A004 -- read as `sssl.open`
from sssl.errors import StoreError, Unlabelled
from sssl.version import __version__

__all__ = ["Output", "StoreError", "Unlabelled", "__version__", "label", "open"]
