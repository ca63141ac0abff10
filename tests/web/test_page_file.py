"""The explorer as one file: what its bundler does with modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from web.page_file import bundle


def test_a_module_that_a_file_cannot_contain_is_refused(tmp_path: Path):
    (tmp_path / "one.js").write_text('import { two } from "./two.js";\nexport const one = two + 1;\n')
    (tmp_path / "two.js").write_text("export const two = 2;\n")
    assert "const {two} = module0" in re.sub(r"\{ (\w+) \} =", r"{\1} =", bundle(tmp_path / "one.js"))
    for text in (
        'import two from "./two.js";',
        "export default 1;",
        'import { one } from "./one.js";\nexport const two = 1;',
    ):
        (tmp_path / "two.js").write_text(text)
        with pytest.raises(ValueError, match=r"imports itself|does not support"):
            bundle(tmp_path / "one.js")
