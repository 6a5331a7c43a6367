"""Public functions with four parameters or more say what each is."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.docs.commands import ROOT

PARAMETERS = 4
REFERENCES = ("as in ``", "see ``")
"""Phrases of a docstring that leaves its parameters to another one."""
COMPILED = ("model/kernels/gpu", "export/onnx_model")
"""Read by compilers: the parameters are the operator's, in the module's docstring."""


def functions(
    node: ast.AST, owner: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Public functions and methods with the class that they belong to; not nested ones."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from functions(child, child.name)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and (
            not child.name.startswith("_") or child.name == "__init__"
        ):
            yield owner, child


def described() -> set[str]:
    """Methods whose parameters some class describes: those that override them need not."""
    return {
        function.name
        for file in (
            *ROOT.glob("service/**/*.py"),
            *ROOT.glob("model/**/*.py"),
            *ROOT.glob("export/**/*.py"),
        )
        for owner, function in functions(ast.parse(file.read_text()))
        if owner and "Args:" in (ast.get_docstring(function) or "")
    }


@pytest.mark.parametrize("package", ["service", "model", "export", "benchmarks"])
def test_parameters_are_described(package: str) -> None:
    inherited = described() - {"__init__"}
    missing = [
        f"{file.relative_to(ROOT)}:{function.lineno} {function.name}"
        for file in sorted(ROOT.glob(f"{package}/**/*.py"))
        if not str(file.relative_to(ROOT)).startswith(COMPILED)
        for owner, function in functions(ast.parse(file.read_text()))
        if len(function.args.args) + len(function.args.kwonlyargs) - bool(owner) >= PARAMETERS
        and not (owner and function.name in inherited)
        and "Args:" not in (text := ast.get_docstring(function) or "")
        and not any(phrase in text for phrase in REFERENCES)
    ]
    assert missing == []
