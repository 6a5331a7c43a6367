"""Members of a ``.pt2`` file, checked before torch sees them.

torch's loaders write members under the names that the file gives them, and read a pickle or load a
library wherever one is named. An AOTInductor package is machine code in any case, and a program of
``torch.export`` has expressions that torch evaluates: both are for trusted sources alone.
"""

from __future__ import annotations

import io
import posixpath
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from osa.export.errors import ArtifactError
from osa.model.common.model_files import parse_json

MOST_MEMBERS = 100_000
ROOM = 1 << 20
"""What members may have in all beyond the size of the file, as none is compressed [bytes]."""
ENCRYPTED = 0x01
HARMLESS = 0x02 | 0x04 | 0x08 | 0x800
"""Flags of members that change nothing: level of compression, sizes after the content, UTF-8."""
GRAPH = "models/model.json"
SAMPLES = "data/sample_inputs/model.pt"
CODE = "data/aotinductor/"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")


class Archive:
    """A ``.pt2`` file in memory whose members are names within it, once each, and stored."""

    def __init__(self, content: bytes, where: Path) -> None:
        """Check every member; nothing is written.

        Args:
            content: Of the file.
            where: Its path, for messages.

        Raises:
            ArtifactError: Naming the member.
        """
        self._content, self._where = content, where
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
            members = self._zip.infolist()
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
            raise ArtifactError(f"{where} is not a .pt2 file: {error}") from error
        if not 1 <= len(members) <= MOST_MEMBERS:
            raise ArtifactError(f"{where} has {len(members)} members, allowed are {MOST_MEMBERS}")
        self._root = members[0].filename.partition("/")[0] + "/"
        seen: set[str] = set()
        for member in members:
            problem = self._problem(member)
            if member.filename.lower() in seen:
                problem = "comes twice"
            seen.add(member.filename.lower())
            if problem:
                raise ArtifactError(
                    f"{where}: the member {member.filename[:100]!r} {problem}: it is not read; "
                    "export the model again"
                )
        if sum(member.file_size for member in members) > len(content) + ROOM:
            raise ArtifactError(f"{where}: its members are larger than the file: it is not read")

    def _problem(self, member: zipfile.ZipInfo) -> str | None:
        name = member.filename
        kind = stat.S_IFMT(member.external_attr >> 16)
        if "\\" in name or not name.isprintable() or len(name) > 1000:
            return "has a name that is not one of torch's"
        if posixpath.isabs(name) or posixpath.normpath(name) != name or not name.strip("./"):
            return "leads outside of the archive"
        if not name.startswith(self._root) or ".." in name.split("/"):
            return "leads outside of the archive"
        if kind not in (0, stat.S_IFREG):
            return "is not a file"
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & ENCRYPTED:
            return "is compressed or encrypted, which torch does not write"
        if member.flag_bits & ~HARMLESS:
            return f"has the flags {member.flag_bits:#06x}, which torch does not write"
        return None

    def names(self) -> Iterator[str]:
        """Names of the members, without that of the archive before them."""
        return (name.removeprefix(self._root) for name in self._zip.namelist())

    def read(self, name: str) -> bytes:
        """Content of a member.

        Raises:
            ArtifactError: There is none, or it is damaged.
        """
        try:
            return self._zip.read(self._root + name)
        except (KeyError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
            raise ArtifactError(f"{self._where} cannot be read: {error}") from error

    def rewritten(self, changed: Mapping[str, bytes] | None = None) -> bytes:
        """A file of the members that were checked, and of nothing else.

        Parsers of the format may differ on a file that was made to deceive one of them; on this
        they cannot. Members of ``changed`` have other content.

        Raises:
            ArtifactError: A member is damaged.
        """
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name in self.names():
                content = (changed or {}).get(name)
                content = self.read(name) if content is None else content
                archive.writestr(zipfile.ZipInfo(self._root + name), content)
        return target.getvalue()

    def check_program(self) -> None:
        """Refuse machine code and pickles in a program of ``torch.export``: ours have none.

        Raises:
            ArtifactError: Naming what is there.
        """
        for name in self.names():
            if name.startswith(CODE):
                raise ArtifactError(f"{self._where} has machine code ({name[:100]}): not loaded")
        for name in CONFIGS:
            try:
                entries = parse_json(self.read(name))["config"].values()
                pickled = any(entry.get("use_pickle") is not False for entry in entries)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ArtifactError(f"{self._where}: {name} is damaged") from error
            if pickled:
                raise ArtifactError(
                    f"{self._where} has pickles ({name}), which could run code: not loaded"
                )
