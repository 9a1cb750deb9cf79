"""Colours of classes, told apart by colour-blind readers too. Loads nothing that draws."""

from __future__ import annotations

import numpy as np

CLASS_COLORS = (
    "#e69f00",
    "#d55e00",
    "#0072b2",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#f0e442",
    "#7f7f7f",
)
"""Okabe and Ito's palette, safe for colour-blind readers; the order gives Russell's quadrants their
usual hues."""


def color_of(index: int) -> str:
    """Return the colour of a class by its position."""
    return CLASS_COLORS[index % len(CLASS_COLORS)]


def ink_on(color: str) -> str:
    """Return black or white, whichever reads better on a colour (WCAG's relative luminance)."""
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    # Contrast to black (L + .05) / .05 exceeds contrast to white 1.05 / (L + .05) above this
    # luminance.
    if linear @ [0.2126, 0.7152, 0.0722] > 0.179:
        return "#000000"
    return "#ffffff"
