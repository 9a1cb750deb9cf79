"""Tables as teams send them, read as a catalog has them: the columns that it knows, each of its
type.

What Parquet says in types and CSV in words means the same: an empty cell, a NaN and a null are all
no value, and no other column is looked at.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from sssl.catalog.plane import AXES, LARGEST
from sssl.errors import CatalogError
from sssl.urls import file_name, first_line, is_not_there, local_path, opened, without_secrets
from sssl.words import GUARDED

TEXTS = ("track_id", "uri", "label", "split", "group_id")
COLUMNS = (*TEXTS, "expected_s", "locked")
_ENDS = (".csv", ".parquet")
_NEARLY = 0.75
"""Share of letters in common: `lable`, `Labels` and `group` are near, `locked` and `looped` are
not."""
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_TICKS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_NUMBER_TYPES = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_null,
)
_ROWS_AT_ONCE = 1 << 20
"""Of a column that is gone through in pieces, lest a copy of all of it takes the memory."""
_OTHER_SEPARATORS = ";\t|"
_HOW_TO_READ = (
    "`--task valence-arousal` reads valence and arousal from -1 to 1, and their quadrant as the"
    " label"
)
_YES = ("true", "1", "yes")
_NO = ("false", "0", "no")


def is_table(url: str) -> bool:
    """Whether a path or URL names a table rather than a folder, by its suffix."""
    return file_name(url).lower().endswith(_ENDS)


def read_columns(
    url: str,
    needed: Sequence[str],
    wanted: Sequence[str] = COLUMNS,
    tell: Callable[[str], None] = lambda _: None,
) -> pa.Table:
    """Read those of the wanted columns that a CSV or Parquet file has.

    Texts are strings without blank ones, `expected_s` are seconds as float32, `locked` are flags,
    valence and arousal float32 from -1 to 1; any may be null. `tell` is told which other columns
    may be misspelt.

    Raises:
        CatalogError: it cannot be read, lacks a needed column, or a column holds something else.
    """
    shown = without_secrets(url)
    try:
        with opened(url) as file:
            if file_name(url).lower().endswith(".parquet"):
                names, table = _read_parquet(file, wanted)
            else:
                names, table = _read_csv(file)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise CatalogError(f"cannot read {shown}: {_why(error, url)}") from None
    # A third of the table's size is left from decoding it.
    pa.default_memory_pool().release_unused()
    for name in needed:
        if name not in names:
            raise CatalogError(f"{shown}: column {name} is missing; {what_it_has(names)}")
    unread = [name for name in names if name.strip().lower() in AXES and name not in wanted]
    if unread and "label" in wanted and "label" not in names:
        listed = " and ".join(unread)
        tell(f"{shown}: numbers such as {listed} are not read: {_HOW_TO_READ}")
    for meant, found_name in _misspelt(names, wanted):
        tell(f"{shown}: column {found_name!r} is not read; is {meant} meant?")
    there = [name for name in wanted if name in names]
    found = {name: _only_one(table, name, shown) for name in there}
    for name in TEXTS:
        if name in found:
            found[name] = _text(found[name], name, shown)
    if "label" in found:
        # A class may start like a formula: so it is written by our own exports.
        found["label"] = pc.replace_substring_regex(found["label"], GUARDED, r"\1")
    ids = found["track_id"]
    if "expected_s" in found:
        found["expected_s"] = _seconds(found["expected_s"], ids, shown)
    for name in AXES:
        if name in found:
            column = found[name]
            found[name] = _on_axis(column, ids, name, shown)
    if "locked" in found:
        found["locked"] = _flags(found["locked"], ids, shown)
    return pa.table(found)


def which_is_meant(value: str, allowed: Sequence[str]) -> str | None:
    """Ask whether one of the allowed values is meant that differs in case or blanks only; None if
    there is none."""
    bare = value.strip()
    if bare in allowed:
        return f"is {bare} meant, without the blanks?"
    alike = [one for one in allowed if one.casefold() == bare.casefold()]
    if alike:
        return f"is {alike[0]} meant?"
    return None


def what_it_has(names: Sequence[str]) -> str:
    """Say which columns a table has, and what to do if something else than commas separates
    them."""
    if len(names) == 1 and _is_separated_otherwise(names[0]):
        return f"it has a single one, {names[0]!r}: separate columns by commas"
    listed = ", ".join(names)
    return f"it has {listed or 'no columns'}"


def _is_separated_otherwise(header: str) -> bool:
    return "," not in header and any(sign in header for sign in _OTHER_SEPARATORS)


def _misspelt(names: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pair each wanted column that is not there with one whose name is nearly its own."""
    others = {name.strip().lower(): name for name in names if name not in COLUMNS}
    for meant in wanted:
        if meant in names:
            continue
        close = get_close_matches(meant, others, n=1, cutoff=_NEARLY)
        if close:
            yield meant, others[close[0]]


def _why(error: Exception, url: str) -> str:
    """Say why a table could not be read, without what may be secret in its address."""
    if isinstance(error, OSError) and local_path(url) is None:
        if isinstance(error, FileNotFoundError) and is_not_there(error):
            return "no such file"
        cause = error.__cause__ or error
        return type(cause).__name__
    said = str(error).replace(url, without_secrets(url))
    if "utf" in said.lower():
        said += "; save it as UTF-8"
    return said


def _read_parquet(file: Any, wanted: Sequence[str]) -> tuple[list[str], pa.Table]:
    """Return the names of all columns, and the wanted ones."""
    parquet = pq.ParquetFile(file)
    names = parquet.schema_arrow.names
    there = [name for name in wanted if name in names]
    return names, parquet.read(columns=there)


def _read_csv(file: Any) -> tuple[list[str], pa.Table]:
    if file.read(2) in _UTF_16:
        raise UnicodeError("it is UTF-16")
    file.seek(0)
    header = first_line(file).strip()
    if _is_separated_otherwise(header):
        return [header], pa.table({})  # commas within its rows would be columns that it has not
    file.seek(0)
    # Ids like 007 are text; an empty cell is a missing value, "NA" or "None" may be a label.
    types = dict.fromkeys((*COLUMNS, *AXES), pa.string())
    convert = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    table = pa.csv.read_csv(file, parse_options=parse, convert_options=convert)
    if any(map(_has_lines, table.columns)):
        file.seek(0)
        _check_quotes(file)
    return table.column_names, table


def _has_lines(column: pa.ChunkedArray) -> bool:
    """Whether a text of a column has several lines."""
    if not pa.types.is_string(column.type):
        return False
    return any(
        pc.any(pc.match_substring_regex(piece, "[\r\n]")).as_py() for piece in _pieces(column)
    )


def _check_quotes(file: Any) -> None:
    """Refuse a CSV in which a quote opens a cell and nothing closes it there: up to the next quote
    all rows are lost in it, and the last of them gives the rest of its cells to the first.

    Raises:
        ValueError: it is one.
    """
    # Arrow reads such a file without a word. This is slow, so only files with lines in cells come
    # here.
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    row = 1  # where the next row starts
    try:
        for _ in reader:
            row = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"line {row}: a quote opens a cell, and none closes it there ({error}); write a quote"
            " within a cell twice, and the cell in quotes"
        ) from None
    finally:
        text.detach()


def _only_one(table: pa.Table, name: str, url: str) -> pa.ChunkedArray:
    names = table.column_names
    places = [place for place, other in enumerate(names) if other == name]
    if len(places) > 1:
        raise CatalogError(f"{url}: column {name} appears more than once")
    (place,) = places
    column = table[place]
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def _text(column: pa.ChunkedArray, name: str, url: str) -> pa.ChunkedArray:
    """Return a column as text, without what says nothing: blank cells, and NaN where labels are
    numbers."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        text = column.cast(pa.string())
    except pa.ArrowException as error:
        raise _wrong_type(column, name, "text", url) from error
    is_blank = pa.chunked_array(map(_is_blank, _pieces(text)), pa.bool_())
    if not pc.any(is_blank).as_py():
        return text  # as it is: of millions a copy would take as much memory again
    return pc.if_else(is_blank, None, text)


def _pieces(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    for chunk in column.chunks:
        for start in range(0, len(chunk), _ROWS_AT_ONCE):
            yield chunk.slice(start, _ROWS_AT_ONCE)


def _is_blank(text: pa.Array) -> pa.Array:
    return pc.equal(pc.utf8_trim_whitespace(text), "")


def _seconds(column: pa.ChunkedArray, track_ids: pa.ChunkedArray, url: str) -> pa.ChunkedArray:
    """Return `expected_s` in seconds, in single precision as the table will give it back."""
    kind = column.type
    if pa.types.is_duration(kind):
        ticks = column.cast(pa.int64())
        exact = ticks.cast(pa.float64(), safe=False)
        per_s = float(_TICKS_PER_S[kind.unit])
        numbers = pc.divide(exact, per_s)
    else:
        numbers = _numbers(column, track_ids, "expected_s", "seconds as a number", url)
    known = pc.if_else(pc.is_nan(numbers), None, numbers)
    seconds = known.cast(pa.float32(), safe=False)
    is_negative = pc.less(seconds, 0)
    wrong = pc.or_(is_negative, pc.is_inf(seconds))
    _check_none(wrong, column, track_ids, "expected_s", "seconds as a number, from 0", url)
    return seconds


def _on_axis(
    column: pa.ChunkedArray, track_ids: pa.ChunkedArray, name: str, url: str
) -> pa.ChunkedArray:
    """Return valence or arousal, in single precision."""
    expected = f"a number from {-LARGEST:g} to {LARGEST:g}"
    numbers = _numbers(column, track_ids, name, expected, url)
    is_nan = pc.is_nan(numbers)
    known = pc.if_else(is_nan, None, numbers)
    distance = pc.abs(known)
    is_beyond = pc.greater(distance, LARGEST)
    expected += "; of a scale from 1 to 9 it is (rating - 5) / 4"
    _check_none(is_beyond, column, track_ids, name, expected, url)
    return known.cast(pa.float32(), safe=False)


def _numbers(
    column: pa.ChunkedArray, track_ids: pa.ChunkedArray, name: str, expected: str, url: str
) -> pa.ChunkedArray:
    """Return a column as float64, whether it has numbers or texts of numbers."""
    kind = column.type
    if _is_any(kind, *_TEXT_TYPES):
        text = _text(column, name, url)
        return _parsed(text, track_ids, name, expected, url)
    if _is_any(kind, *_NUMBER_TYPES):
        return column.cast(pa.float64(), safe=False)
    raise _wrong_type(column, name, expected, url)


def _is_any(kind: pa.DataType, *kinds: Callable[[pa.DataType], bool]) -> bool:
    return any(is_one(kind) for is_one in kinds)


def _parsed(
    text: pa.ChunkedArray, track_ids: pa.ChunkedArray, name: str, expected: str, url: str
) -> pa.ChunkedArray:
    """Return numbers that were written as text."""
    try:
        return pc.utf8_trim_whitespace(text).cast(pa.float64())
    except pa.ArrowInvalid:  # Arrow says no row; and Python reads a few more spellings
        values = text.to_pylist()
        is_wrong = [_is_no_number(value) for value in values]
        wrong = pa.chunked_array([is_wrong], pa.bool_())
        _check_none(wrong, text, track_ids, name, expected, url)
        numbers = [float(value) if value else None for value in values]
        return pa.chunked_array([numbers], pa.float64())


def _is_no_number(value: str | None) -> bool:
    try:
        float(value or 0)
    except ValueError:
        return True
    return False


def _flags(column: pa.ChunkedArray, track_ids: pa.ChunkedArray, url: str) -> pa.ChunkedArray:
    text = _text(column, "locked", url)
    trimmed = pc.utf8_trim_whitespace(text)
    words = pc.utf8_lower(trimmed)
    known = pa.array([*_YES, *_NO, None], pa.string())
    is_known = pc.is_in(words, known)
    wrong = pc.invert(is_known)
    _check_none(wrong, column, track_ids, "locked", "true or false", url)
    is_yes = pc.is_in(words, pa.array(_YES))
    return pc.if_else(words.is_null(), None, is_yes)


def _check_none(
    wrong: pa.ChunkedArray,
    column: pa.ChunkedArray,
    track_ids: pa.ChunkedArray,
    name: str,
    expected: str,
    url: str,
) -> None:
    """Refuse the first value that is wrong."""
    first = pc.index(wrong, True).as_py()
    if first >= 0:
        track_id = track_ids[first].as_py()
        value = column[first].as_py()
        raise CatalogError(f"{url}: track {track_id!r} has {name} {value!r}, expected {expected}")


def _wrong_type(column: pa.ChunkedArray, name: str, expected: str, url: str) -> CatalogError:
    return CatalogError(f"{url}: column {name} is {column.type}, expected {expected}")
