"""Code is short, not dense: one step per statement, and comments that give reasons."""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = {
    str(path.relative_to(ROOT)): path.read_text()
    for package in ("sssl", "pipelines")
    for path in sorted((ROOT / package).rglob("*.py"))
}

MOST_NODES = 11.5
"""Syntax nodes per statement; structlog has 8.6, nanochat 10.9, xarray-beam 11.9."""
LEAST_COMMENTS = 0.04
"""Share of lines with a comment, where the method and the sound are decided."""
COMMENTED = ("audio", "labels", "model", "songs")


def nodes_per_statement(text):
    nodes = list(ast.walk(ast.parse(text)))
    statements = [node for node in nodes if isinstance(node, ast.stmt)]
    return len(nodes) / max(1, len(statements))


def lines_with_a_comment(text):
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return len({token.start[0] for token in tokens if token.type == tokenize.COMMENT})


def test_a_statement_is_one_step():
    density = {path: round(nodes_per_statement(text), 2) for path, text in FILES.items()}
    assert not {path: nodes for path, nodes in density.items() if nodes > MOST_NODES}


def test_the_method_and_the_sound_give_their_reasons():
    lines = Counter()
    comments = Counter()
    for path, text in FILES.items():
        room = path.split("/")[1]
        lines[room] += len(text.splitlines())
        comments[room] += lines_with_a_comment(text)
    share = {room: round(comments[room] / lines[room], 3) for room in COMMENTED}
    assert not {room: found for room, found in share.items() if found < LEAST_COMMENTS}
