"""Every instruction set of this machine."""

from tests.instruction_sets import instruction_set as instruction_set
from tests.instruction_sets import products as products
