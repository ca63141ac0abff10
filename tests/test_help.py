"""Every script answers --help without importing slow libraries."""

import json
import subprocess
import sys

from tests.conftest import ROOT

SLOW = {"torch", "torchvision", "torchmetrics", "tensorboard", "matplotlib", "scipy", "cv2", "imageio"}

PROGRAM = """
import contextlib, io, json, runpy, sys
results = {}
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            results[script] = (end.code, "--help" in output.getvalue(), sorted(sys.modules))
print(json.dumps(results))
"""


def test_help_imports_no_slow_library():
    scripts = sorted(path.name for path in ROOT.glob("*.py"))
    command = [sys.executable, "-c", PROGRAM, *scripts]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    results = json.loads(process.stdout)
    assert sorted(results) == scripts
    for script, (code, has_help, modules) in results.items():
        assert (script, code, has_help, SLOW & set(modules)) == (script, 0, True, set())
