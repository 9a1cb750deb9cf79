"""The model as MLflow loads it, from this file ("models from code"): paths of audio in, labels
out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from sssl.errors import Unlabelled
from sssl.songs.labeller import make_labeller

COLUMNS = ("label", "confidence", "abstained", "timeline")


class SongLabels(PythonModel):
    """Labels files by their paths or URLs, as `sssl.label` does."""

    def load_context(self, context: Any) -> None:
        weights = Path(context.artifacts["weights"])
        settings = Path(context.artifacts["settings"])
        models = [path.read_bytes() for path in sorted(weights.iterdir())]
        self._labeller = make_labeller(models, json.loads(settings.read_bytes()))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return one row per path; a file that cannot be labelled has only a `reason`
        (docs/reasons.md)."""
        del context, params  # part of MLflow's interface
        paths = model_input["path"].explode()  # MLflow makes one row of {"path": [...]}
        found = pd.DataFrame(
            [self._row(path) for path in paths], columns=["path", *COLUMNS, "reason"]
        )
        # A server answers in JSON, which has null where pandas has NaN.
        return found.astype(object).where(found.notna(), None)

    def _row(self, path: str) -> dict[str, Any]:
        try:
            song = self._labeller.label(path, fold=None)
        except Unlabelled as error:
            return {"path": path, "reason": error.reason}
        return {"path": path, **{name: getattr(song, name) for name in COLUMNS}}


set_model(SongLabels())
