import sys

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from engine.png import from_pillow, save_png
from images.video import read_frames, save_gif, save_mp4, save_video


def flat(level: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.full((3, height, width), level, np.uint8)


def gif_frames(file):
    with Image.open(file) as film:
        for index in range(film.n_frames):
            film.seek(index)
            yield from_pillow(film), film.info["duration"]


class TestGif:
    def test_frames_durations_and_repetition(self, tmp_path):
        levels = [0, 60, 120, 250]
        save_gif(tmp_path / "a.gif", (flat(level) for level in levels), fps=10)
        frames = list(gif_frames(tmp_path / "a.gif"))
        assert [int(frame[0, 0, 0]) for frame, _ in frames] == levels
        assert [duration for _, duration in frames] == [100] * 4
        with Image.open(tmp_path / "a.gif") as film:
            assert film.info["loop"] == 0
            assert film.size == (32, 32)

    def test_repeated_frame_extends_the_duration(self, tmp_path):
        save_gif(tmp_path / "a.gif", [flat(0), flat(9), flat(9), flat(9)], fps=10)
        assert [duration for _, duration in gif_frames(tmp_path / "a.gif")] == [100, 300]

    def test_delay_beyond_16_bits_is_split(self, tmp_path):
        random = np.random.default_rng(0)
        photos = [random.integers(0, 256, (3, 20, 30), np.uint8) for _ in range(2)]
        save_gif(tmp_path / "a.gif", [flat(0, 20, 30), *[photos[0]] * 140, photos[1]], fps=0.1)
        frames = list(gif_frames(tmp_path / "a.gif"))
        assert [duration for _, duration in frames] == [10_000, 655_350, 655_350, 89_300, 10_000]
        for image, _ in frames[2:4]:
            np.testing.assert_array_equal(image, frames[1][0])
        assert (frames[4][0] != frames[3][0]).any()
        save_gif(tmp_path / "b.gif", [photos[0]] * 70, fps=0.1)
        assert [duration for _, duration in gif_frames(tmp_path / "b.gif")] == [655_350, 44_650]

    def test_duration_is_rounded_to_hundredths_of_a_second(self, tmp_path):
        save_gif(tmp_path / "a.gif", [flat(0), flat(9)], fps=24)
        assert [duration for _, duration in gif_frames(tmp_path / "a.gif")] == [40, 40]

    @pytest.mark.parametrize("fps", [0, -1, 51, float("nan"), float("inf")])
    def test_fps_out_of_range(self, tmp_path, fps):
        with pytest.raises(UserError, match="frames per second"):
            save_gif(tmp_path / "a.gif", [flat(0)], fps)

    def test_no_frames(self, tmp_path):
        with pytest.raises(ValueError, match="no frames"):
            save_gif(tmp_path / "a.gif", [], 10)

    def test_error_in_the_frames_leaves_no_file(self, tmp_path):
        def frames():
            yield flat(0)
            raise UserError("broken")

        for suffix in ("gif", "mp4"):
            with pytest.raises(UserError, match="broken"):
                save_video(tmp_path / f"a.{suffix}", frames(), 10)
        assert list(tmp_path.iterdir()) == []


class TestMp4:
    @pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47)])
    def test_frames_are_padded_to_even_sides(self, tmp_path, height, width):
        levels = [20, 90, 160, 230]
        save_mp4(tmp_path / "a.mp4", (flat(level, height, width) for level in levels), fps=5)
        with imageio.get_reader(tmp_path / "a.mp4") as reader:
            metadata = reader.get_meta_data()
            frames = [frame for frame in reader]  # noqa: C416  list() would request the infinite length
        assert metadata["fps"] == 5
        assert metadata["codec"] == "h264"
        assert metadata["pix_fmt"].startswith("yuv420p")
        assert metadata["size"] == (width + width % 2, height + height % 2)
        assert [frame.mean() for frame in frames] == pytest.approx(levels, abs=4)

    def test_padding_repeats_the_last_pixels(self, tmp_path):
        frame = flat(200, 31, 31)
        save_mp4(tmp_path / "a.mp4", [frame] * 2, fps=5)
        with imageio.get_reader(tmp_path / "a.mp4") as reader:
            assert reader.get_data(0).min() > 190

    @pytest.mark.parametrize("missing", ["imageio.v2", "imageio_ffmpeg"])
    def test_missing_extra(self, tmp_path, monkeypatch, missing):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(UserError, match=r"pip install .*\[video\]") as error:
            save_mp4(tmp_path / "a.mp4", [flat(0)], fps=5)
        assert "\n" not in str(error.value)

    def test_missing_encoder(self, tmp_path, monkeypatch):
        import imageio_ffmpeg

        def none():
            raise RuntimeError("No ffmpeg exe could be found.")

        monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
        with pytest.raises(UserError, match=r"\[video\].*No ffmpeg exe"):
            save_mp4(tmp_path / "a.mp4", [flat(0)], fps=5)

    @pytest.mark.parametrize("fps", [0, -3, 121, float("nan")])
    def test_fps_out_of_range(self, tmp_path, fps):
        with pytest.raises(UserError, match="frames per second"):
            save_mp4(tmp_path / "a.mp4", [flat(0)], fps)


class TestReadFrames:
    def files(self, folder, *levels):
        files = [folder / f"{level}.png" for level in levels]
        for file, level in zip(files, levels, strict=True):
            save_png(file, flat(level, 20, 30))
        return files

    def test_order_and_hold(self, tmp_path):
        frames = list(read_frames(self.files(tmp_path, 9, 0, 200), hold=2))
        assert [int(frame[0, 0, 0]) for frame in frames] == [9, 0, 200, 200, 200]
        assert frames[0].shape == (3, 20, 30)

    def test_scale(self, tmp_path):
        image = flat(0, 20, 30)
        image[:, ::4] = image[:, 1::4] = 200
        save_png(tmp_path / "a.png", image)
        (frame,) = read_frames([tmp_path / "a.png"], scale=0.5)
        assert frame.shape == (3, 10, 15)
        assert abs(frame[:, ::2].astype(int) - 200).max() < 30
        assert frame[:, 1::2].max() < 30
        (frame,) = read_frames([tmp_path / "a.png"], scale=0.001)
        assert frame.shape == (3, 1, 1)

    def test_damaged_image_or_other_size(self, tmp_path):
        files = self.files(tmp_path, 0, 1, 2)
        whole = files[1].read_bytes()
        for content in (whole[: len(whole) // 2], whole[:60], b"", b"no image"):
            files[1].write_bytes(content)
            with pytest.raises(UserError, match=r"1\.png"):
                list(read_frames(files))
        save_png(files[1], flat(0, 20, 31))
        with pytest.raises(UserError, match=r"1\.png.*\(31, 20\)"):
            list(read_frames(files))
        files[1].unlink()
        with pytest.raises(UserError, match=r"1\.png"):
            list(read_frames(files))
