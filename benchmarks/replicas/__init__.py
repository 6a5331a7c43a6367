"""A simulation of many replicas: how p99 and cost follow from the autoscaler's signal."""
