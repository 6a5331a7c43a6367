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
from osa.export.torch_program.placement import on_device
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
        self._device = self.device_of(artifact, device)
        self._made_for = artifact.manifest.device
        self._call = self._load(artifact)

    @classmethod
    @abstractmethod
    def device_of(cls, artifact: Artifact, asked: str = "auto") -> str:
        """The device to run on.

        Raises:
            ExportError: There is none here, or it cannot run there.
        """

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

    def run(self, inputs: np.ndarray, places: np.ndarray, tokens: bool = True) -> GraphOutputs:
        """Run the graph; see ``Runner``."""
        tensors = [self._placed(torch.from_numpy(part)) for part in (inputs, places)]
        try:
            with torch.inference_mode():
                found = self._call(*tensors)
        except RuntimeError as error:
            raise ExportError(f"the compiled graph failed: {error}") from error
        embeddings, norms, states = found
        read = states.cpu().numpy() if tokens else None
        return GraphOutputs(embeddings.cpu().numpy(), norms.cpu().numpy(), read)

    def _placed(self, part: Tensor) -> Tensor:
        """An input on the device, without waiting for the copy."""
        if self._device == "cpu":
            return part
        return part.pin_memory().to(self._device, non_blocking=True)


class AotiRunner(TorchRunner):
    """An AOTInductor package."""

    def __init__(self, artifact: Artifact, device: str = "auto") -> None:
        """Load the package; a compiler is not needed.

        Raises:
            ExportError: It was compiled for another device or processor, or cannot be loaded.
        """
        self.check_machine(artifact)
        super().__init__(artifact, device)

    @classmethod
    def device_of(cls, artifact: Artifact, asked: str = "auto") -> str:
        """That which it was compiled for; see ``TorchRunner``."""
        device = "cpu" if artifact.manifest.device == "any" else artifact.manifest.device
        if asked not in ("auto", device):
            raise ExportError(
                f"{artifact.path} was made for {device}, not {asked}: export it with "
                f"--device {asked}"
            )
        if device == "cuda" and (problem := cuda_problem()) is not None:
            raise ExportError(
                f"{artifact.path} was compiled for cuda, but {problem}: export it again on this "
                "machine, or with --device cpu"
            )
        return device

    @classmethod
    def check_machine(cls, artifact: Artifact) -> str:
        """The device, where its code runs on the processor or GPU that is here.

        Raises:
            ExportError: Why it does not.
        """
        device = cls.device_of(artifact)
        check = check_gpu if device == "cuda" else check_processor
        check(artifact.manifest.versions, artifact.path)
        return device

    def load_graph(self, archive: Archive) -> Callable[..., Sequence[Tensor]]:
        """The compiled graph of a package, from a private copy of the members that were checked."""
        with scratch_directory("an aoti artifact") as scratch:
            copy = scratch / "model.pt2"
            copy.write_bytes(archive.rewritten())
            package: Callable[..., Sequence[Tensor]] = torch._inductor.aoti_load_package(str(copy))
        return package


class ExportedRunner(TorchRunner):
    """A plain exported program, moved to another device than it was made on where asked to."""

    @classmethod
    def device_of(cls, artifact: Artifact, asked: str = "auto") -> str:
        """What is asked for; else what it was made on, or the CPU where that is missing."""
        made = "cpu" if artifact.manifest.device == "any" else artifact.manifest.device
        device = made if asked == "auto" else asked
        if device == "cuda" and (problem := cuda_problem()) is not None:
            if asked == "auto":
                return "cpu"
            raise ExportError(f"device cuda was asked for, but {problem}: use device cpu")
        return device

    def load_graph(self, archive: Archive) -> Callable[..., Sequence[Tensor]]:
        """The program as a module."""
        archive.check_program()
        # torch would read a pickle of any kind where this fails
        torch.load(io.BytesIO(archive.read(SAMPLES)), weights_only=True, map_location="cpu")
        moves = self._made_for not in ("any", self._device)
        content = on_device(archive, self._device) if moves else archive.rewritten()
        program = torch.export.load(io.BytesIO(content))
        module: Callable[..., Sequence[Tensor]] = program.module()
        return module
