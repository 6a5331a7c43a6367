"""``.pt2`` artifacts in torch: AOTInductor packages and plain exported programs."""

from __future__ import annotations

import errno
import io
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from osa.export.errors import ExportError
from osa.export.manifest import Artifact
from osa.export.processor import check_gpu, check_processor
from osa.export.runner import GraphOutputs
from osa.export.torch_program.archive import SAMPLES, Archive
from osa.model import kernels
from osa.model import ops as ops  # registers osa::attention
from osa.model.common.scratch import no_temporary_directory, scratch_directory
from osa.model.errors import OsaError
from osa.model.inference.cuda_device import cuda_problem


class TorchRunner(ABC):
    """Base of both formats: devices, tensors, errors."""

    def __init__(self, artifact: Artifact, device: str = "auto") -> None:
        """Load the package; a compiler is not needed.

        Raises:
            ExportError: It was made for another device, or torch cannot load it.
        """
        own = device_of(artifact)
        if device not in ("auto", own):
            raise ExportError(
                f"{artifact.path} was made for {own}, not {device}: export it with "
                f"--device {device}"
            )
        self._device = own
        self._call = self._load(artifact)

    def _load(self, artifact: Artifact) -> Callable[..., Sequence[Tensor]]:
        os.environ["AOTI_RUNTIME_CHECK_INPUTS"] = "1"  # otherwise wrong sizes read out of bounds
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.load_graph(Archive(artifact.read_graph(), artifact.graph))
        except OsaError:
            raise
        except Exception as error:  # loaders raise exceptions of many types
            if "temporary directory" in str(error):  # in C++, which takes TMPDIR alone
                reason = OSError(errno.EACCES, "torch cannot make one there")
                raise ExportError(no_temporary_directory("this artifact", reason)) from error
            raise ExportError(
                f"torch {torch.__version__} cannot load {artifact.graph}, made by torch "
                f"{artifact.manifest.versions.get('torch')}: {error}"
            ) from error

    @abstractmethod
    def load_graph(self, archive: Archive) -> Callable[..., Sequence[Tensor]]:
        """Load the graph of a file, as a function of its inputs."""

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._device

    @property
    def kernel(self) -> str:
        """What computes the attention."""
        return kernels.describe(self._device)

    def run(self, inputs: np.ndarray, places: np.ndarray) -> GraphOutputs:
        """Run the graph."""
        tensors = [torch.from_numpy(part).to(self._device) for part in (inputs, places)]
        try:
            with torch.inference_mode():
                found = self._call(*tensors)
        except RuntimeError as error:
            raise ExportError(f"the compiled graph failed: {error}") from error
        return GraphOutputs(*(part.cpu().numpy() for part in found))


def device_of(artifact: Artifact) -> str:
    """The device that an artifact runs on.

    Raises:
        ExportError: There is none here.
    """
    device = artifact.manifest.device
    if device == "cuda" and (problem := cuda_problem()) is not None:
        raise ExportError(
            f"{artifact.path} was compiled for cuda, but {problem}: export it again on this "
            "machine, or with --device cpu"
        )
    return "cpu" if device == "any" else device


class AotiRunner(TorchRunner):
    """An AOTInductor package."""

    def __init__(self, artifact: Artifact, device: str = "auto") -> None:
        """Load the package; a compiler is not needed.

        Raises:
            ExportError: It was compiled for another device or processor, or cannot be loaded.
        """
        if artifact.manifest.device == "cpu":
            check_processor(artifact.manifest.versions, artifact.path)
        elif device_of(artifact) == "cuda":
            check_gpu(artifact.manifest.versions, artifact.path)
        super().__init__(artifact, device)

    def load_graph(self, archive: Archive) -> Callable[..., Sequence[Tensor]]:
        """The compiled graph of a package, from a private copy of the members that were checked."""
        with scratch_directory("an aoti artifact") as scratch:
            copy = scratch / "model.pt2"
            copy.write_bytes(archive.rewritten())
            package: Callable[..., Sequence[Tensor]] = torch._inductor.aoti_load_package(str(copy))
        return package


class ExportedRunner(TorchRunner):
    """A plain exported program."""

    def load_graph(self, archive: Archive) -> Callable[..., Sequence[Tensor]]:
        """The program as a module."""
        archive.check_program()
        # torch would read a pickle of any kind where this fails
        torch.load(io.BytesIO(archive.read(SAMPLES)), weights_only=True)
        program = torch.export.load(io.BytesIO(archive.rewritten()))
        module: Callable[..., Sequence[Tensor]] = program.module()
        return module
