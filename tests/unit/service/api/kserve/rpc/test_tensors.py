"""Writing an answer ends where nobody waits for it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("grpc", reason="the extra grpc is not installed")

from osa.service.api.kserve.jobs import OutputArray
from osa.service.api.kserve.rpc.tensors import render_response
from osa.service.api.kserve.schemas import InferRequest
from osa.service.api.vector_encoding import AT_ONCE
from osa.service.errors import ClientGoneError


def test_numbers_are_written_in_steps() -> None:
    output = OutputArray("out", "FP32", np.zeros((3, AT_ONCE), np.float32), binary=False)
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 2:
            raise ClientGoneError("the client went away")

    with pytest.raises(ClientGoneError):
        render_response([output], InferRequest.model_construct(inputs=[]), "m", check)
