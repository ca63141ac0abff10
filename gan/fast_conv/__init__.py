"""Faster algorithms for the networks' convolutions on a CPU, applied from outside: `convert(network)`."""

from gan.fast_conv.layers import convert

__all__ = ["convert"]
