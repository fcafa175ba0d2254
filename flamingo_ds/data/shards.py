"""Which tar files a dataset has, and the samples in one."""

import glob
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import braceexpand
from webdataset.tariterators import base_plus_ext

from ..config import ConfigError
from .bad_samples import BadSample
from .sources import ByteSource, check_address, is_remote, open_shard

# No honest sample is larger, and a sparse member may claim any size.
LARGEST_MEMBER = 10**9


@dataclass
class RawSample:
    """Undecoded members of one sample.

    Attributes:
        shard: path or address of its tar.
        key: its name in there.
        members: bytes by suffix in lower case: ``jpg``, ``0.png``, ``json``.
        bad: why it cannot be used, if that is known already.
        seed: of every random choice about it, different in each epoch.
    """

    shard: str
    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    bad: BadSample | None = None
    seed: str = ""


@dataclass(frozen=True)
class Patience:
    """With shards that cannot be read.

    Attributes:
        retries: how often one is opened again.
        wait_s: seconds before the first of these; each later wait is twice as long.
        stall_s: seconds without a byte.
    """

    retries: int = 4
    wait_s: float = 1.0
    stall_s: float = 60.0


def expand_shards(key: str, pattern: str) -> list[str]:
    """Paths and addresses of a dataset's shards, in order.

    Args:
        key: the configuration key, for messages.
        pattern: a path or http(s) address, where braces ``{000..127}`` count up; a path where ``*`` and ``?`` match
            files; a folder, for all ``*.tar`` in it; or ``pipe:COMMAND``, where braces count up too.

    Raises:
        ConfigError: nothing matches, or a file that braces name is not there.
    """
    paths = []
    for path in braceexpand.braceexpand(pattern):
        check_address(key, path)
        if is_remote(path):
            paths.append(path)
        elif os.path.isdir(path):
            paths += _matching(key, os.path.join(glob.escape(path), "*.tar"))
        elif glob.has_magic(path) and not os.path.exists(path):
            paths += _matching(key, path)
        else:
            paths.append(path)
    missing = [path for path in paths if not is_remote(path) and not os.path.isfile(path)]
    if missing:
        raise ConfigError(key, missing[0], f"a tar file; {len(missing)} of {len(paths)} shards are not there")
    return paths


def _matching(key: str, pattern: str) -> list[str]:
    found = sorted(glob.glob(pattern))
    if not found:
        raise ConfigError(key, pattern, "at least one tar file that matches")
    return found


def read_shard(shard: str, patience: Patience, on_error: Callable[[BadSample], None]) -> Iterator[RawSample]:
    """All samples of a shard, which is opened again behind those that it gave when its source breaks.

    Args:
        shard: path or address.
        patience: with its source.
        on_error: told when the rest of the shard is given up: ``broken_tar`` or ``missing_shard``.
    """
    given = 0
    for attempt in range(patience.retries + 1):
        try:
            for number, sample in enumerate(_samples(shard, patience.stall_s)):
                if number >= given:
                    given += 1
                    yield sample
        except Exception as error:  # of the file system, of tarfile, of zlib and the other decompressors
            broken = not isinstance(error, OSError)
            if attempt == patience.retries or (broken and not is_remote(shard)):
                kind = "broken_tar" if broken else "missing_shard"
                on_error(BadSample(kind, f"{type(error).__name__}: {error}"))
                return
            time.sleep(patience.wait_s * 2**attempt)
        else:
            return


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


def _samples(shard: str, stall_s: float) -> Iterator[RawSample]:
    """Members that follow each other with the same key; one that a break leaves incomplete is not given."""
    sample = RawSample(shard, "")
    with open_shard(shard, stall_s) as source:
        for name, content in _members(source):
            key, suffix = base_plus_ext(name)
            if key is None:
                if not isinstance(content, BadSample):
                    continue  # a README
                key, suffix = name, ""
            if key != sample.key:
                if sample.key:
                    yield sample
                sample = RawSample(shard, key)
            _add(sample, suffix.lower(), content)
    if sample.key:
        yield sample


def _add(sample: RawSample, suffix: str, content: bytes | BadSample) -> None:
    if isinstance(content, BadSample):
        sample.bad = content
    elif suffix in sample.members:
        sample.bad = BadSample("duplicate_member", f"member {suffix} is there twice")
    else:
        sample.members[suffix] = content


def _members(source: ByteSource) -> Iterator[tuple[str, bytes | BadSample]]:
    with tarfile.open(fileobj=source, mode="r|*", tarinfo=StrictHeader) as archive:  # type: ignore[call-overload]
        for member in archive:
            if member.isreg():
                yield member.name, _content(archive, member)
            archive.members.clear()  # else it remembers every one


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | BadSample:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return BadSample("climbing_path", f"member {member.name!r} is not within its folder")
    if member.size > LARGEST_MEMBER:
        return BadSample("too_large_member", f"member {member.name!r} of {member.size:,} bytes")
    content = archive.extractfile(member)
    assert content is not None
    return content.read()
