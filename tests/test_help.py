"""Every script answers --help at once."""

import json
import subprocess
import sys

from tests.conftest import ROOT

SLOW = {"torch", "torchvision", "torchmetrics", "tensorboard", "matplotlib", "scipy", "cv2", "imageio"}
"""Libraries whose import alone takes a good part of a second, or several."""

PROGRAM = """
import contextlib, io, json, runpy, sys
found = {}
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            found[script] = (end.code, "--help" in told.getvalue(), sorted(sys.modules))
print(json.dumps(found))
"""


def test_no_script_loads_a_slow_library_to_say_what_it_does():
    scripts = sorted(path.name for path in ROOT.glob("*.py"))
    command = [sys.executable, "-c", PROGRAM, *scripts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert sorted(found) == scripts
    for script, (code, helped, modules) in found.items():
        assert (script, code, helped, SLOW & set(modules)) == (script, 0, True, set())
