"""Every variant of products of this machine."""

from tests.instruction_sets import products as products
