"""What a step may ask Dataflow for, so that only its own workers have a GPU."""

from __future__ import annotations

from sssl.config import require

_NEEDED = {"type", "count"}
_KNOWN = _NEEDED | {"machine_type", "install-nvidia-driver", "use_nvidia_mps"}
EXAMPLE = "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver"


def require_accelerator(hint: str | None) -> None:
    """Check a hint for an accelerator, whose text neither Beam nor Dataflow checks before workers
    start.

    Raises:
        ConfigError: it is none.
    """
    if hint is None:
        return
    named = dict(word.partition(":")[::2] for word in hint.split(";"))
    is_known = named.keys() <= _KNOWN
    with_a_value = _NEEDED | ({"machine_type"} & named.keys())
    require(
        is_known and all(named.get(name) for name in with_a_value),
        "accelerator",
        hint,
        f"what Dataflow's hints have, such as {EXAMPLE}",
    )
