"""Which tar files a dataset has, and the samples in one."""

import glob
import os
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import braceexpand
from webdataset.tariterators import group_by_keys

from ..config import ConfigError

RawSample = dict[str, Any]


def expand_shards(key: str, pattern: str) -> list[str]:
    """Paths of a dataset's shards, in order.

    Args:
        key: the configuration key, for messages.
        pattern: a path; braces ``{000..127}`` count up, otherwise ``*`` and ``?`` match files.

    Raises:
        ConfigError: nothing matches, or a shard that braces name is not there.
    """
    paths = list(braceexpand.braceexpand(pattern))
    if len(paths) == 1 and glob.has_magic(pattern):
        paths = sorted(glob.glob(pattern))
        if not paths:
            raise ConfigError(key, pattern, "at least one tar file that matches")
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise ConfigError(key, missing[0], f"a tar file; {len(missing)} of {len(paths)} shards are not there")
    return paths


def read_shard(path: str, on_error: Callable[[Exception], bool]) -> Iterator[RawSample]:
    """Samples of a tar as dicts of undecoded bytes; ``__key__`` names the sample, ``__url__`` the tar.

    Args:
        path: the tar file.
        on_error: told of a broken or vanished tar, says whether to go on with what is left.
    """

    def on_bad_member(error: Exception) -> bool:
        return on_error(ValueError(error.args[0]))  # without webdataset's additions

    yield from group_by_keys(_members(path, on_error), handler=on_bad_member)


class StrictHeader(tarfile.TarInfo):
    """A member's header; tarfile takes a broken one behind the first for the end of the archive, and says nothing."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "StrictHeader":
        """The next header.

        Raises:
            tarfile.ReadError: there is none, and no mark of the end of the archive either.
        """
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {tarfile_.offset}") from error  # type: ignore[attr-defined]


def _members(path: str, on_error: Callable[[Exception], bool]) -> Iterator[dict[str, Any]]:
    try:
        with tarfile.open(path, "r|*", tarinfo=StrictHeader) as archive:
            for member in archive:
                if member.isreg():
                    content = archive.extractfile(member)
                    assert content is not None
                    yield {"fname": member.name, "data": content.read(), "__url__": path}
                archive.members.clear()  # else it remembers every one
    except Exception as error:  # of the file system, of tarfile, of zlib and the other decompressors
        on_error(error)
