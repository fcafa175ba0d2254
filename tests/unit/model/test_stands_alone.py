"""An exported model carries copies of these files side by side: they may only know one another and what a user has."""

import ast
import sys
from pathlib import Path

import pytest

import flamingo_ds.model

FOLDER = Path(flamingo_ds.model.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))
ALLOWED = {"torch", "transformers", "PIL"} | sys.stdlib_module_names


def test_the_folder_is_flat():
    assert {path.parent for path in FILES} == {FOLDER}
    assert len(FILES) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= ALLOWED
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module.split(".")[0] in ALLOWED
        elif isinstance(node, ast.ImportFrom):
            # ``from .name import ...`` of a file beside this one: transformers copies what it finds in this form.
            assert node.level == 1
            assert node.module is not None
            assert (FOLDER / f"{node.module}.py").is_file()
