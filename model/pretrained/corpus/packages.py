"""Packages of Debian and of the Python Package Index: downloaded and unpacked, not installed."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PackageKind = Literal["deb", "sdist", "index"]


@dataclass(frozen=True)
class Package:
    """A package to download.

    Attributes:
        name: Name of the package; of the distribution for an index.
        license: Licence of the texts that are read from it.
        kind: A Debian package, a Python source archive, or Debian's index of descriptions.
        version: Version of a source archive; the others have that of the Debian release.
    """

    name: str
    license: str
    kind: PackageKind = "deb"
    version: str = ""


@dataclass(frozen=True)
class Fetched:
    """An unpacked package, with version and sha256 of its archive."""

    package: Package
    root: Path
    version: str
    sha256: str


def fetch(package: Package, folder: Path | None, scratch: Path) -> Fetched:
    """Unpack a package below ``scratch``.

    Args:
        package: The package.
        folder: Directory of archives; None downloads them.
        scratch: Directory for downloaded and unpacked files.

    Raises:
        FileNotFoundError: ``folder`` does not contain the package.
        subprocess.CalledProcessError: A download failed, or an archive cannot be unpacked.
    """
    if folder is None:
        folder = scratch / "archives" / package.name
        folder.mkdir(parents=True)
        _download(package, folder)
    root = scratch / "unpacked" / package.name
    root.mkdir(parents=True)
    files = archives(package, folder)
    if not files:
        raise FileNotFoundError(f"{folder} holds no archive of {package.name} ({package.kind})")
    if package.kind == "deb":
        files = files[-1:]
        subprocess.run(["dpkg", "-x", str(files[0]), str(root)], check=True)
        version = files[0].name.split("_")[1].replace("%3a", ":")
    elif package.kind == "sdist":
        files = files[-1:]
        # tar itself keeps members inside of the directory; tarfile's filters came after 3.11.0
        own = ["--no-same-owner", "--no-same-permissions"]
        command = ["tar", "-x", *own, "-f", str(files[0].absolute()), "-C", str(root)]
        subprocess.run(command, check=True)
        version = files[0].name.removesuffix(".tar.gz").rpartition("-")[2]
    else:
        for file in files:
            (root / file.name).symlink_to(file.resolve())
        version = package.version
    return Fetched(package, root, version, _sha256(files))


def archives(package: Package, folder: Path) -> list[Path]:
    """The archives of the package in a directory, by name."""
    if package.kind == "deb":
        return sorted(folder.glob(f"{package.name}_*.deb"))
    if package.kind == "index":
        return sorted(folder.glob("*Translation-en"))
    plain = _plain(package.name)
    return [
        file
        for file in sorted(folder.glob("*.tar.gz"))
        if _plain(file.name.rpartition("-")[0]) == plain
    ]


def _plain(name: str) -> str:
    """Normalised name of the Python Package Index."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _download(package: Package, folder: Path) -> None:
    if package.kind == "deb":
        subprocess.run(["apt-get", "download", "-qq", package.name], cwd=folder, check=True)
    elif package.kind == "sdist":
        pin = f"{package.name}=={package.version}"
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), pin]
        subprocess.run(command, check=True)
    else:
        _download_index(folder)


def _download_index(folder: Path) -> None:
    """Debian's English descriptions; apt in containers is often configured to omit them."""
    main = Path("/etc/apt/apt.conf")
    own = folder / "main.conf"
    own.write_text(
        (main.read_text(encoding="utf-8") if main.is_file() else "")
        + f'\nDir::State::lists "{folder}";\nAcquire::GzipIndexes "false";\n'
        + '#clear Acquire::Languages;\nAcquire::Languages { "en"; };\n',
        encoding="utf-8",
    )
    first = folder / "first.conf"
    first.write_text(f'Dir::Etc::main "{own}";\n', encoding="utf-8")
    (folder / "partial").mkdir()
    environment = {**os.environ, "APT_CONFIG": str(first)}
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True)


def _sha256(files: list[Path]) -> str:
    """Digest of one archive, or of the digests of several."""
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )
