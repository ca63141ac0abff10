"""Open the lab in a browser: explore faces, watch runs train, and name people in photos.

Everything is served from this machine, and nothing is sent anywhere else. Ctrl-C ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from engine.cli import parse
from engine.errors import UserError, missing_extra, run_script
from engine.files import is_file
from engine.lock import is_locked
from engine.runs import DEFAULT_KIND, find_run, has_checkpoint
from engine.settings import Device, Groups
from gan.options import generator_file, print_origin
from web.address import HOST, OUTPUT


@dataclass(frozen=True)
class ExploreArguments:
    """Which run, and where to serve the pages."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "run browser port",
        "recogniser": "gallery detector",
        "expert": "host output device",
    }

    run: Annotated[str | None, Positional, arg(metavar="[RUN]")] = None
    """A run of any kind (folder, or name or number in --output), or a .safetensors file of export.py, or
    `drawn` for the generator that comes with the project; by default the newest run, or `drawn` if there is
    none."""
    browser: bool = True
    """Open the page in the browser."""
    port: int | None = None
    """Port to listen on; by default 8421, or the next free one."""
    gallery: Path | None = None
    """Gallery of recognize.py by which people are named, besides that of each classifier."""
    detector: Path | None = None
    """ONNX file of a YuNet face detector. By default OpenCV's frontal-face cascade finds the faces."""
    host: str = HOST
    """Address to listen on. With any other than this machine's own, others on the network can use the pages,
    without a password."""
    output: Path = OUTPUT
    """Folder of all runs, also in its sub-folders, such as classifiers/."""
    device: Device = "cpu"
    """Device to compute on."""

    def __post_init__(self) -> None:
        if self.port is not None and not 1 <= self.port <= 65535:
            raise UserError(f"--port must be 1 to 65535, not {self.port}")
        if self.gallery is not None and self.gallery.suffix != ".npz":
            raise UserError(f"--gallery {self.gallery} must end in .npz")
        if self.detector is not None and not is_file(self.detector):
            raise UserError(f"there is no file {self.detector}")

    def find_run(self) -> Path:
        """The run's folder, or the generator's file.

        Raises:
            UserError: there is no such run or file.
        """
        file = generator_file(self.run, self.output)
        if file is None:
            return find_run(self.run, self.output)
        if not is_file(file):
            raise UserError(f"there is no file {file}")
        return file


def main() -> None:
    """Parse the command line, and serve the pages until Ctrl-C."""
    arguments = parse(ExploreArguments, description=__doc__)
    run = arguments.find_run()
    try:
        from web.context import Context
        from web.server import serve
    except ImportError as error:
        raise missing_extra("the pages need", "pages", error) from error
    context = Context(
        run=run,
        output=arguments.output,
        gallery=arguments.gallery,
        detector=arguments.detector,
        device=arguments.device,
    )
    start = start_path(run)
    if arguments.run is None and not run.is_dir():
        print_origin(arguments.output)
    serve(context, host=arguments.host, port=arguments.port, browser=arguments.browser, start=start)


def start_path(run: Path) -> str:
    """The page to open: the explorer for a GAN that has ended, the training page for other runs."""
    if not run.is_dir():
        return "/explorer"
    from web.library import read_config

    if is_locked(run) or read_config(run)["kind"] != DEFAULT_KIND or not has_checkpoint(run):
        return "/training"
    return "/explorer"


if __name__ == "__main__":
    run_script(main)
