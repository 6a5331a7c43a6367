"""The Open Inference Protocol over gRPC, beside ``/v2``, and gRPC's health service."""
