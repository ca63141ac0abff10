import numpy as np
import pytest

from faces.preparation.video import Stretch, read_frames, stretches
from images.decode import UnusableImageError

cv2 = pytest.importorskip("cv2", reason="needs the extra 'photos'")

FRAMES, RATE = 40, 10


@pytest.fixture(scope="module", params=["MJPG.avi", "mp4v.mp4"])
def video(request, tmp_path_factory):
    """Each frame is red, 5 levels brighter than the one before."""
    code, _, ending = request.param.partition(".")
    path = tmp_path_factory.mktemp("videos") / f"película 日本.{ending}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), RATE, (64, 48))
    for index in range(FRAMES):
        writer.write(np.full((48, 64, 3), (0, 0, 5 * index + 20), np.uint8))
    writer.release()
    return path


def seen(path, *parts):
    """The numbers of the frames, and those that their colours tell."""
    frames = [frame for part in parts for frame in read_frames(path, part)]
    assert all(image.shape == (3, 48, 64) and image.dtype == np.uint8 for _, image in frames)
    assert all(image[1:].max() < 40 for _, image in frames)  # red comes first
    told = [round((float(image[0].mean()) - 20) / 5) for _, image in frames]
    return [number for number, _ in frames], told


@pytest.mark.parametrize(("fps", "expected"), [(10, range(40)), (5, range(0, 40, 2)), (99, range(40))])
def test_frames_are_taken_at_the_rate_that_is_asked_for(video, fps, expected):
    numbers, told = seen(video, *stretches(video, fps, 100))
    assert numbers == [*expected]
    assert np.abs(np.subtract(numbers, told)).max() <= 1


def test_a_rate_that_does_not_divide_the_videos_takes_the_nearest_frames(video):
    numbers, _ = seen(video, *stretches(video, 4, 100))
    assert numbers == [0, 2, 5, 8, 10, 12, 15, 18, 20, 22, 25, 28, 30, 32, 35, 38]


def test_stretches_by_themselves_give_what_the_whole_gives(video):
    parts = stretches(video, 5, 3)
    assert len(parts) == 7
    numbers, told = seen(video, *parts)
    assert numbers == [*range(0, 40, 2)]
    assert np.abs(np.subtract(numbers, told)).max() <= 1
    alone, told = seen(video, parts[4])
    assert alone == [24, 26, 28]
    assert np.abs(np.subtract(alone, told)).max() <= 1


def test_what_is_no_video_is_said_in_a_few_words(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video" * 100)
    (part,) = stretches(path, 1, 100)
    with pytest.raises(UnusableImageError, match="no video that can be read"):
        list(read_frames(path, part))


def test_a_video_that_ends_long_before_it_says_is_damaged_and_gives_what_it_has(video):
    frames = read_frames(video, Stretch(0, 1.0, FRAMES + 100))
    assert [next(frames)[0] for _ in range(FRAMES)] == [*range(FRAMES)]
    with pytest.raises(UnusableImageError, match="damaged: it ends before frame 40 of 140"):
        next(frames)


def test_a_few_frames_less_than_promised_are_no_damage(video):
    assert len(list(read_frames(video, Stretch(0, 1.0, FRAMES + 5)))) == FRAMES


@pytest.mark.parametrize(("end", "missing"), [(FRAMES + 25, 25), (FRAMES + 26, 26), (FRAMES + 60, 60)])
def test_a_short_last_stretch_without_a_frame_is_damage_where_many_are_missing(video, end, missing):
    frames = read_frames(video, Stretch(end - 3, 1.0, end))
    if missing > 25:
        with pytest.raises(UnusableImageError, match=f"damaged: it ends before frame {end - 3} of {end}"):
            next(frames)
    else:
        assert list(frames) == []
