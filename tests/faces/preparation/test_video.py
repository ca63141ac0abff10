import subprocess

import numpy as np
import pytest
from PIL import Image

from faces.preparation.video import VideoSegment, read_frames, split_video
from images.decode import UnusableImageError

cv2 = pytest.importorskip("cv2", reason="needs the extra 'photos'")

FRAMES, RATE = 40, 10


@pytest.fixture(scope="module", params=["MJPG.avi", "mp4v.mp4"])
def video(request, tmp_path_factory):
    """Red frames, each 5 levels brighter than the one before."""
    code, _, ending = request.param.partition(".")
    path = tmp_path_factory.mktemp("videos") / f"película 日本.{ending}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), RATE, (64, 48))
    for index in range(FRAMES):
        writer.write(np.full((48, 64, 3), (0, 0, 5 * index + 20), np.uint8))
    writer.release()
    return path


def read_numbers(path, *parts):
    """The reported numbers of the frames, and those encoded in their colours."""
    frames = [frame for part in parts for frame in read_frames(path, part)]
    assert all(image.shape == (3, 48, 64) and image.dtype == np.uint8 for _, image in frames)
    assert all(image[1:].max() < 40 for _, image in frames)  # red comes first
    encoded = [round((float(image[0].mean()) - 20) / 5) for _, image in frames]
    return [number for number, _ in frames], encoded


@pytest.mark.parametrize(("fps", "expected"), [(10, range(40)), (5, range(0, 40, 2)), (99, range(40))])
def test_frames_at_the_requested_rate(video, fps, expected):
    numbers, encoded = read_numbers(video, *split_video(video, fps, 100))
    assert numbers == [*expected]
    assert np.abs(np.subtract(numbers, encoded)).max() <= 1


def test_nearest_frames_for_other_rates(video):
    numbers, _ = read_numbers(video, *split_video(video, 4, 100))
    assert numbers == [0, 2, 5, 8, 10, 12, 15, 18, 20, 22, 25, 28, 30, 32, 35, 38]


def test_segments_together_give_the_whole_video(video):
    parts = split_video(video, 5, 3)
    assert len(parts) == 7
    numbers, encoded = read_numbers(video, *parts)
    assert numbers == [*range(0, 40, 2)]
    assert np.abs(np.subtract(numbers, encoded)).max() <= 1
    alone, encoded = read_numbers(video, parts[4])
    assert alone == [24, 26, 28]
    assert np.abs(np.subtract(alone, encoded)).max() <= 1


def test_unreadable_video(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"not video" * 100)
    (part,) = split_video(path, 1, 100)
    with pytest.raises(UnusableImageError, match="not a readable video"):
        list(read_frames(path, part))


def test_truncated_video_yields_its_frames_then_raises(video):
    frames = read_frames(video, VideoSegment(0, 1.0, FRAMES + 100))
    assert [next(frames)[0] for _ in range(FRAMES)] == [*range(FRAMES)]
    with pytest.raises(UnusableImageError, match="damaged: it ends before frame 40 of 140"):
        next(frames)


def test_few_missing_frames_are_accepted(video):
    assert len(list(read_frames(video, VideoSegment(0, 1.0, FRAMES + 5)))) == FRAMES


@pytest.mark.parametrize(("end", "missing"), [(FRAMES + 25, 25), (FRAMES + 26, 26), (FRAMES + 60, 60)])
def test_empty_last_segment_of_a_truncated_video(video, end, missing):
    frames = read_frames(video, VideoSegment(end - 3, 1.0, end))
    if missing > 25:
        with pytest.raises(UnusableImageError, match=f"damaged: it ends before frame {end - 3} of {end}"):
            next(frames)
    else:
        assert list(frames) == []


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_frames_are_taken_by_time(tmp_path, ending):
    """50 frames of 0.02 seconds, then two of 2: the levels tell the number."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs the extra 'video'").get_ffmpeg_exe()
    pictures = []
    for index in range(52):
        Image.new("RGB", (64, 48), (4 * index + 20, 0, 0)).save(tmp_path / f"{index}.png")
        pictures.append(f"file {index}.png\noption framerate 50\nduration {0.02 if index < 50 else 2}\n")
    (tmp_path / "list.txt").write_text("ffconcat version 1.0\n" + "".join(pictures))
    path = tmp_path / f"a.{ending}"
    command = [ffmpeg, "-y", "-safe", "0", "-i", tmp_path / "list.txt", "-fps_mode", "vfr"]
    subprocess.run([*command, "-c:v", "libx264rgb", "-crf", "0", path], check=True, capture_output=True)
    whole, segments = (
        [round((float(image[0].mean()) - 20) / 4) for part in parts for _, image in read_frames(path, part)]
        for parts in (split_video(path, 10, 100), split_video(path, 10, 2))
    )
    # To within a frame at the file's mean rate, 17 a second in the MP4.
    assert whole == pytest.approx([*range(0, 50, 5), 50, 51], abs=3)
    assert segments == sorted({*segments})
    assert max(np.diff(segments)) < 10
    assert (segments[0], segments[-1]) == (0, 51)
    assert len(segments) <= 14
