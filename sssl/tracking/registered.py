"""A labeller from a model that MLflow has: of its registry, or in a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sssl.errors import StoreError

if TYPE_CHECKING:
    from sssl.songs.labeller import Labeller


def registered_labeller(
    model: str, mlflow_uri: str | None, front_end: str | None = None, accept_licence: bool = False
) -> Labeller:
    """Load a labeller from `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or a folder that MLflow
    saved a model in.

    Raises:
        StoreError: there is no such model, or it is none of ours.
        FrontEndError: it goes by a front-end that is neither where it was nor given, or may not be
            used.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    from sssl.songs.labeller import make_labeller

    try:
        if mlflow_uri is not None:
            mlflow.set_tracking_uri(mlflow_uri)
        with TemporaryDirectory() as fetched:
            is_registered = model.startswith("models:/")
            folder = Path(
                mlflow.artifacts.download_artifacts(model, dst_path=fetched)
                if is_registered
                else model
            )
            artifacts = Model.load(os.fspath(folder)).flavors["python_function"]["artifacts"]
            weights = folder / artifacts["weights"]["path"]
            settings = folder / artifacts["settings"]["path"]
            models = [path.read_bytes() for path in sorted(weights.iterdir())]
            recipe = json.loads(settings.read_bytes())
            return make_labeller(models, recipe, front_end, accept_licence)
    except (MlflowException, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        # A message with a URL in it may have a password in it.
        why = type(error).__name__ if "://" in str(error) else f"{type(error).__name__}: {error}"
        raise StoreError(f"{model} is no model of sssl that can be loaded: {why}") from None
