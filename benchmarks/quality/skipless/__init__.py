"""Depth without skips and norms: does orthogonal attention train where softmax does not?"""
