"""Tables of others as pandas frames: CSV and Parquet, measured before they are read."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from moe2opt.errors import InputError
from moe2opt.files import open_regular, read_text
from moe2opt.text import fault_of_name, shown

if TYPE_CHECKING:
    import pandas as pd

#: Cells of a table that are still read; more is refused.
LARGEST_CELLS = 100_000_000

#: Largest CSV file that is read, in bytes.
_MOST_BYTES = 2**31


def read_frame(path: Path) -> pd.DataFrame:
    """Read a table, Parquet by its suffix and else CSV; names of columns are names.

    Raises
    ------
    InputError
        ``path: reason`` for what is no table, is too large, or has a column without a name that
        can be shown; also where the library for Parquet is missing.
    """
    import pandas as pd

    where = shown(str(path))
    try:
        if path.suffix == ".parquet":
            frame = _parquet(path)
        else:
            text = read_text(path, _MOST_BYTES)
            if not text.strip():
                raise InputError(f"{where}: the file is empty")
            frame = pd.read_csv(io.StringIO(text))
    except ImportError as error:
        raise InputError(
            f"{where}: reading Parquet needs pyarrow: pip install 'moe2opt[parquet]'"
        ) from error
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{where}: too large for the memory") from error
    except Exception as error:  # pandas and pyarrow raise what they like on damaged files
        reason = shown(" ".join(str(error).split()))
        raise InputError(f"{where}: cannot be read as a table: {reason}") from error
    for name, column in frame.items():
        if fault := fault_of_name(str(name)):
            raise InputError(f"{where}: column '{shown(str(name)[:40])}': {fault}")
        if column.dtype == object and any(map(_is_huge, column)):
            raise InputError(f"{where}: column '{name}': a number is too large")
    return frame


def _is_huge(value: object) -> bool:
    """Tell whether a value is a whole number that no float holds."""
    return type(value) is int and abs(value) > sys.float_info.max


def _parquet(path: Path) -> pd.DataFrame:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    open_regular(path).close()
    # Arrow opens the file itself: after a damaged page a thread of it may still read while the
    # process ends, and one that then calls a file of Python's aborts it.
    with arrow.OSFile(str(path)) as stream:
        file = parquet.ParquetFile(stream)
        if file.metadata.num_rows * file.metadata.num_columns > LARGEST_CELLS:
            raise InputError(f"{path}: more than {LARGEST_CELLS:,} cells")
        frame: pd.DataFrame = file.read().to_pandas()
    # pandas stores an index that has a name as a column that it hides when reading.
    return frame if frame.index.name is None else frame.reset_index()
