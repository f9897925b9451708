"""Videos of the app: files in, files out, what is refused, and stopping."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from app_models import state
from PIL import Image

from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.app.user_inputs import EXAMPLES, Limits, read_input
from sparse_rcnn_lab.app.video import Writer, annotate, film_of, open_clip, sample_video

pytest.importorskip("av")


@pytest.fixture
def tiny(tiny, monkeypatch):
    monkeypatch.setattr(tiny, "limits", Limits(video_seconds=5))
    return tiny


def clip_of(path, frames=20, rate=10, size=(97, 64)):
    """A clip whose frame k is k * 10 bright."""
    with Writer(path, rate) as writer:
        for k in range(frames):
            writer.add(Image.new("RGB", size, (k * 10, k * 10, k * 10)))
    return path


def test_a_written_clip_reads_back(tmp_path):
    """Catches lost frames, a wrong rate, a colour space that does not come back, odd sides, a lower
    rate that takes the first frames or drifts."""
    clip = open_clip(clip_of(tmp_path / "a.mp4"), Limits())
    assert (clip.width, clip.height) == (96, 64)
    assert clip.seconds == pytest.approx(2.0) and clip.rate == pytest.approx(10)
    frames = list(clip.frames(10))
    assert [round(t, 2) for t, _ in frames] == [round(k / 10, 2) for k in range(20)]
    for k, (_, pixels) in enumerate(frames):
        assert pixels.shape == (3, 64, 96) and pixels.dtype == torch.uint8
        assert abs(pixels.float().mean() - k * 10) < 4
    assert [t for t, _ in clip.frames(5)] == pytest.approx([k / 5 for k in range(10)], abs=0.051)


@pytest.mark.parametrize("ending", ["ts", "mkv", "mp4"])
def test_a_clock_that_does_not_begin_at_0(tmp_path, ending):
    """Catches the frame of another time, and a wrong length, where the first frame is at 30 s."""
    path = timed(tmp_path / f"a.{ending}", [30 + k / 10 for k in range(40)])
    clip = open_clip(path, Limits())
    assert clip.seconds == pytest.approx(4.0, abs=0.1)
    frames = list(clip.frames(10))
    assert [round(t, 2) for t, _ in frames] == [round(k / 10, 2) for k in range(40)]
    for k in (0, 7, 25, 39):
        assert abs(frames[k][1].float().mean() - k * 4) < 4


def test_an_avi_whose_frames_are_not_in_the_order_of_its_packets(tmp_path):
    """Catches frames that are left out because their times seem to go back."""
    import av

    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "3"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for k in range(20):
            array = np.full((64, 96, 3), k * 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    frames = list(open_clip(tmp_path / "a.avi", Limits()).frames(10))
    assert [round(t, 2) for t, _ in frames] == [round(k / 10, 2) for k in range(20)]
    assert all(abs(pixels.float().mean() - k * 10) < 4 for k, (_, pixels) in enumerate(frames))


def test_boxes_come_out_and_progress_is_told(tiny, tmp_path):
    """Catches an output without boxes, of another length, or progress that never ends."""
    source, target = clip_of(tmp_path / "a.mp4", size=(128, 96)), tmp_path / "b.mp4"
    clip = open_clip(source, tiny.limits)
    steps = list(annotate(tiny, clip, state(tiny), 10, target))
    assert [s.frames for s in steps] == list(range(1, 21))
    assert steps[-1].done == pytest.approx(steps[-1].total) == pytest.approx(2.0)
    out = open_clip(target, tiny.limits)
    assert out.seconds == pytest.approx(2.0)
    (_, plain), (_, drawn) = next(clip.frames(1)), next(out.frames(1))
    assert (plain.float() - drawn.float()).abs().max() > 40


def test_stop_keeps_what_is_done(tiny, tmp_path):
    """Catches a stop that throws the work away, or goes on to the end."""
    clip, target = open_clip(clip_of(tmp_path / "a.mp4"), tiny.limits), tmp_path / "b.mp4"
    done = []
    for step in annotate(tiny, clip, state(tiny), 10, target, lambda: len(done) >= 6):
        done.append(step)
    assert len(done) == 6
    assert open_clip(target, tiny.limits).seconds == pytest.approx(0.6)


def test_a_listener_that_leaves_leaves_no_file(tiny, tmp_path):
    """Catches half a video on the disk for every page that was closed."""
    clip, target = open_clip(clip_of(tmp_path / "a.mp4"), tiny.limits), tmp_path / "b.mp4"
    steps = annotate(tiny, clip, state(tiny), 10, target)
    next(steps)
    steps.close()
    assert not target.exists()


def test_what_is_refused(tiny, tmp_path):
    """Catches a codec's own error, a film of hours, and images of a size nobody checked."""
    text = tmp_path / "notes.mp4"
    text.write_text("notes")
    with pytest.raises(LabError, match=r'"notes.mp4" is not a video'):
        open_clip(text, tiny.limits)
    new = tmp_path / "new.mp4"  # of a codec that nobody knows yet
    new.write_bytes(clip_of(tmp_path / "old.mp4").read_bytes().replace(b"avc1", b"zzz9"))
    with pytest.raises(LabError, match=r'"new.mp4" is of a kind \(codec\)'):
        open_clip(new, tiny.limits)
    long = clip_of(tmp_path / "long.mp4", frames=12, rate=2)
    with pytest.raises(LabError, match="6 s long; this page takes up to 5 s"):
        open_clip(long, tiny.limits)
    with pytest.raises(LabError, match="megapixels"):
        open_clip(long, Limits(frame_megapixels=0.001))


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.txt"])
def test_a_playlist_cannot_name_other_files(tmp_path, name):
    """Catches the reader following a playlist to files of this machine, or into the network."""
    secret = clip_of(tmp_path / "secret.mp4")
    playlist = tmp_path / name
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\n{secret}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {secret}\n",
    ):
        playlist.write_text(text)
        with pytest.raises(LabError, match="not a video"):
            open_clip(playlist, Limits())


def test_a_truncated_file_ends_early(tmp_path):
    """Catches a crash half-way through a damaged video."""
    import av

    path = tmp_path / "a.webm"
    with av.open(str(path), "w", format="webm") as container:
        stream = container.add_stream("libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        generator = np.random.default_rng(0)
        for _ in range(20):
            array = generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 0 < len(list(open_clip(path, Limits()).frames(10))) < 20


def timed(path, times, aspect=None, options=None):
    """A video whose frames are at these seconds."""
    import av

    tick = Fraction(1, 1000)
    with av.open(str(path), "w", options=options or {}) as container:
        codec = "libvpx" if path.suffix == ".webm" else "libx264"
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = tick
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for k, second in enumerate(times):
            array = np.full((64, 96, 3), k * 4 % 250, np.uint8)
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base = round(second / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_each_frame_keeps_its_time(tiny, tmp_path):
    """Catches a phone's video, whose frames come unevenly, that plays at another speed or loses
    frames of its dense parts."""
    times = [*(k / 10 for k in range(10)), *(3 + k / 10 for k in range(10))]
    clip = open_clip(timed(tmp_path / "a.mp4", times), tiny.limits)
    list(annotate(tiny, clip, state(tiny), 15, tmp_path / "b.mp4"))
    out = open_clip(tmp_path / "b.mp4", tiny.limits)
    assert [t for t, _ in out.frames(120)] == pytest.approx(times, abs=0.002)


def test_a_length_that_the_file_does_not_tell(tiny, tmp_path):
    """Catches progress of "0 of 0 s", and a film of hours, where a browser recorded the file."""
    live = {"live": "1"}
    clip = open_clip(timed(tmp_path / "a.webm", [k / 10 for k in range(30)], None, live), Limits())
    assert clip.seconds == pytest.approx(2.9, abs=0.15)
    long = timed(tmp_path / "long.webm", [k / 2 for k in range(30)], None, live)
    with pytest.raises(LabError, match=r"1[45] s long; this page takes up to 5 s"):
        open_clip(long, tiny.limits)


def test_a_cut_is_said(tiny, tmp_path):
    """Catches a result that is shorter than its source without a word."""
    source = timed(tmp_path / "a.mp4", [k / 2 for k in range(14)])
    wrong = replace(open_clip(source, Limits()), seconds=2.0)  # as its header might say
    *_, last = annotate(tiny, wrong, state(tiny), 15, tmp_path / "b.mp4")
    assert last.cut == "Cut at 5 s, the limit of this page." and last.done <= last.total
    damaged = replace(open_clip(clip_of(tmp_path / "c.mp4"), Limits()), seconds=4.5)
    *_, last = annotate(tiny, damaged, state(tiny), 15, tmp_path / "d.mp4")
    assert "ends at 2.0 s" in last.cut


def test_pixels_that_are_not_square(tmp_path):
    """Catches a squeezed image, as of a DVD or a camcorder."""
    times = [0.0, 0.1]
    clip = open_clip(timed(tmp_path / "wide.mp4", times, Fraction(2, 1)), Limits())
    assert (clip.width, clip.height) == (192, 64)
    assert next(clip.frames(1))[1].shape == (3, 64, 192)
    clip = open_clip(timed(tmp_path / "high.mp4", times, Fraction(1, 2)), Limits())
    assert (clip.width, clip.height) == (96, 128)


def test_an_empty_file(tmp_path):
    """Catches an OSError of the reader for an upload that ended before its first byte."""
    (tmp_path / "none.mp4").touch()
    with pytest.raises(LabError, match=r'"none\.mp4" is an empty file'):
        open_clip(tmp_path / "none.mp4", Limits())


def test_film_and_sample(tiny, tmp_path):
    """Catches a film without motion, or faster than a second a stage."""
    image = read_input(EXAMPLES / "shapes_1.png")
    small = torch.nn.functional.interpolate(image.pixels[None], (64, 64))[0]
    trace = tiny.full_trace(small, state(tiny))
    clip = open_clip(film_of(trace, 0.0, tmp_path / "film.mp4"), Limits())
    assert clip.seconds == pytest.approx(6 + 0.5 + 3, abs=0.6)
    sample = open_clip(sample_video(image, tmp_path / "sample.mp4", 1.0), Limits())
    assert sample.seconds == pytest.approx(1.0, abs=0.1)
    (_, first), *_, (_, last) = sample.frames(15)
    assert (first.float() - last.float()).abs().mean() > 1


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1), (10, 3000), (1, 1)])
def test_a_sample_of_a_very_narrow_image(tmp_path, size):
    """Catches frames of gigabytes, and a side of no pixels."""
    Image.new("RGB", size, "red").save(tmp_path / "thin.png")
    clip = open_clip(
        sample_video(read_input(tmp_path / "thin.png"), tmp_path / "thin.mp4", 0.2), Limits()
    )
    assert 2 <= clip.width <= 640 and 2 <= clip.height <= 640
