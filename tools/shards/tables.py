"""Rows of a CSV, JSONL or parquet file, one at a time."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flamingo_ds.config import ConfigError

# A page of a CSV may be longer than the csv module expects of a field.
LONGEST_FIELD = 2**30


def read_rows(table: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows as dicts.

    Args:
        table: its suffix says what it is.
        columns: that it must have; JSONL may lack them in some rows.

    Raises:
        ConfigError: no such file, another suffix, a column that is missing, a line that is no JSON object.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    if table.suffix not in readers:
        raise ConfigError("TABLE", str(table), f"a file that ends in {', '.join(readers)}")
    if not table.is_file():
        raise ConfigError("TABLE", str(table), "a file that is there")
    try:
        yield from readers[table.suffix](table, columns)
    except UnicodeDecodeError as error:
        raise ConfigError("TABLE", str(table), f"text in UTF-8; {error}") from error


def count_rows(table: Path) -> int | None:
    """How many there are, where that is known without reading them."""
    if table.suffix == ".parquet" and table.is_file():
        return int(_parquet_file(table).metadata.num_rows)
    return None


def _csv(table: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(LONGEST_FIELD)
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        _require(table, columns, reader.fieldnames or [])
        yield from reader


def _jsonl(table: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    with table.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConfigError("TABLE", f"{table}:{number}", f"a JSON object a line; {error}") from error
            if not isinstance(row, dict):
                raise ConfigError("TABLE", f"{table}:{number}", f"a JSON object a line, not a {type(row).__name__}")
            if number == 1:
                _require(table, columns, list(row))
            yield row


def _parquet(table: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    file = _parquet_file(table)
    _require(table, columns, file.schema_arrow.names)
    for batch in file.iter_batches(batch_size=1024, columns=list(columns)):
        yield from batch.to_pylist()


def _parquet_file(table: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ConfigError("TABLE", str(table), "pyarrow to read it: pip install 'flamingo_ds[parquet]'") from error
    try:
        return parquet.ParquetFile(table)
    except (ArrowException, OSError) as error:
        raise ConfigError("TABLE", str(table), f"a parquet file; {str(error).splitlines()[0]}") from error


def _require(table: Path, columns: Sequence[str], found: Sequence[str]) -> None:
    missing = [column for column in columns if column not in found]
    if missing:
        raise ConfigError(
            "TABLE", str(table), f"a column {missing[0]} (or --{missing[0]} NAME); it has: {', '.join(found)}"
        )
