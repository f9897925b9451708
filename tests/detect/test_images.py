"""Reading, resizing and batching images: what people hand over, and what they hand over broken."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.detect import images
from sparse_rcnn_lab.detect.images import (
    image_header,
    image_name,
    normalise_and_pad,
    read_image,
    resize_image,
    resized_size,
)

# 2 rows, 3 columns, every value different: no flip, turn or channel swap maps it to itself.
PIXELS = (np.arange(18, dtype=np.uint8) * 14).reshape(2, 3, 3)


def as_rows(image: torch.Tensor) -> np.ndarray:
    """Our ``[3, H, W]`` back to ``[H, W, 3]``."""
    assert image.dtype == torch.uint8
    return image.permute(1, 2, 0).numpy()


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def test_every_kind_of_source_gives_the_same_rgb_tensor(tmp_path):
    """Catches BGR, swapped axes, a kind that is scaled otherwise, a caller's array drawn into."""
    path = save(tmp_path / "a.png", PIXELS)
    channels_first = torch.from_numpy(PIXELS.transpose(2, 0, 1).copy())
    bgr = PIXELS[:, :, ::-1].copy()
    sources = [
        path,
        str(path),
        Image.fromarray(PIXELS),
        PIXELS,
        bgr[:, :, ::-1],  # negative strides, as after OpenCV
        PIXELS.astype(np.float32) / 255,
        channels_first,
        channels_first.double() / 255,
    ]
    for source in sources:
        image = read_image(source)
        assert image.is_contiguous()
        np.testing.assert_array_equal(as_rows(image), PIXELS)
    for array in (np.zeros((1, 1, 3), np.uint8), np.zeros((2, 2), np.uint8)):
        read_image(array).fill_(9)
        assert not array.any()
    assert read_image(channels_first).data_ptr() == channels_first.data_ptr()  # not copied


# How a camera stores an upright photograph for each EXIF orientation.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("suffix", ["png", "tif"])  # Pillow turns a TIFF by itself
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_undone(tmp_path, orientation, suffix):
    """Catches photos of phones lying on their side, the two rotations swapped, and a size as stored
    that is not."""
    stored = np.ascontiguousarray(STORED[orientation](PIXELS))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", stored, exif=exif)
    np.testing.assert_array_equal(as_rows(read_image(path)), PIXELS)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(as_rows(read_image(opened)), PIXELS)
    np.testing.assert_array_equal(as_rows(read_image(path, apply_exif=False)), stored)
    assert image_header(path) == (*stored.shape[:2], orientation)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_cost_the_image(tmp_path):
    """Catches an exception out of Pillow's EXIF parser."""
    path = save(tmp_path / "a.png", PIXELS, exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x63garbage")
    np.testing.assert_array_equal(as_rows(read_image(path)), PIXELS)


def test_16_bit_grey_is_scaled_not_cut_off(tmp_path):
    """Catches Pillow's own conversion, which makes all values above 255 white."""
    grey = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    expected = np.array([[0, 0, 1], [128, 254, 255]], np.uint8)
    for name in ("a.png", "a.tif"):
        image = read_image(save(tmp_path / name, grey))
        np.testing.assert_array_equal(image.numpy(), np.stack([expected] * 3))
    for array in (grey, grey.astype(">u2"), grey.astype("<u2")):
        np.testing.assert_array_equal(read_image(array).numpy(), np.stack([expected] * 3))


def test_8_bits_in_32_are_refused():
    """Catches a photograph that is detected on all black."""
    with pytest.raises(LabError, match=r"int32 from 0 to 210. Scale its values to 8 bits"):
        read_image(Image.fromarray(PIXELS[:, :, 0]).convert("I"))
    assert not read_image(Image.new("I", (2, 2))).any()


def test_float_tiff_is_read_in_0_to_1_and_else_refused(tmp_path):
    """Catches a guess about the brightness of float pixels."""
    image = read_image(save(tmp_path / "a.tif", np.array([[0, 0.5, 1]], np.float32)))
    assert image[0].tolist() == [[0, 128, 255]]
    with pytest.raises(LabError, match=r"b\.tif.*from 0\.0 to 300\.0"):
        read_image(save(tmp_path / "b.tif", np.array([[0, 300]], np.float32)))


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "I"])
def test_each_pillow_mode_reads_as_black_and_white(mode):
    """Catches a mode that comes out inverted, transparent, or with another channel count."""
    grey = Image.fromarray(np.array([[0, 255]], np.uint8))
    if mode == "I":
        source = Image.fromarray(np.array([[0, 65535]], np.int32))
    else:
        source = grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else grey
        source = source.convert(mode)
    assert source.mode == mode
    assert read_image(source).tolist() == [[[0, 255]]] * 3


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    """Catches the last frame, a fourth dimension, and a pixel whose dimensions are squeezed."""
    frames = [Image.new("RGB", (1, 1), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").tolist() == [[[255]], [[0]], [[0]]]


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    """Catches the inverted CMYK that Adobe files carry."""
    path = tmp_path / "a.jpg"
    Image.new("RGB", (16, 16), (250, 20, 30)).convert("CMYK").save(path, quality=95)
    red, green, blue = read_image(path)[:, 8, 8].tolist()
    assert red > 230 and green < 50 and blue < 60


def test_transparent_pixels_are_white(tmp_path):
    """Catches the black (or hidden) colour under transparent pixels, in each way to store it."""
    rgba = np.array([[[0, 0, 0, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], np.uint8)
    half = read_image(save(tmp_path / "rgba.png", rgba))
    np.testing.assert_array_equal(half, read_image(rgba))
    assert half[:, 0, :2].T.tolist() == [[255, 255, 255], [10, 20, 30]]
    assert half[:, 0, 2].float().mean() == pytest.approx(127, abs=1)

    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png")[:, 0].T.tolist() == [[255, 255, 255], [10, 20, 30]]

    few = Image.fromarray(rgba[:, :2]).quantize(2)
    assert read_image(few)[:, 0].T.tolist() == [[255, 255, 255], [10, 20, 30]]

    keyed = Image.fromarray(np.array([[[1, 2, 3], [10, 20, 30]]], np.uint8))
    keyed.save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert read_image(tmp_path / "key.png")[:, 0].T.tolist() == [[255, 255, 255], [10, 20, 30]]


NO_IMAGES = {
    "photo.heic": (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "HEIF"),
    "paper.jpg": (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
    "clip.png": (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2", "MP4 video"),
    "page.jpg": (b"\n <!DOCTYPE html><html>404", "HTML, a web page"),
    "empty.png": (b"", "an empty file"),
    "notes.png": ("grüße".encode(), "text"),
    "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
    "head.jpg": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a damaged JPEG"),
    "noise.png": (b"\x81\x82\x00\x90 noise", "an unknown format"),
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_image_is_named(tmp_path, name):
    """Catches a bare traceback, and a message that leaves the person guessing."""
    content, found = NO_IMAGES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LabError) as caught:
        read_image(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f'"{name}" is not an image that Pillow can read (found: {found}')
    assert message.lower().endswith("convert it to jpeg or png.")


def test_photographs_of_phones(tmp_path, monkeypatch):
    """Catches a HEIC that is refused where it could be read, and one that cannot without a way."""
    (tmp_path / "a.heic").write_bytes(NO_IMAGES["photo.heic"][0])
    monkeypatch.setattr(images, "reads_heif", lambda: False)
    with pytest.raises(LabError, match=r"Install pillow-heif .*, or convert it to JPEG"):
        read_image(tmp_path / "a.heic")
    monkeypatch.undo()
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (40, 20), (200, 30, 90))).save(tmp_path / "b.heic")
    read = read_image(tmp_path / "b.heic")
    assert read.shape == (3, 20, 40)
    assert read[:, 10, 20].tolist() == pytest.approx([200, 30, 90], abs=9)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif", "bmp"])
def test_a_file_cut_short_is_an_error_that_names_it(tmp_path, suffix):
    """Catches a half-grey image, and each decoder's own exception."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(LabError, match=rf'"a\.{suffix}" is'):
        read_image(path)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_a_decoder_with_an_error_of_its_own(tmp_path):
    """Catches a RuntimeError, which other decoders do not raise, for a photograph of the web."""
    path = save(tmp_path / "a.avif", PIXELS)
    head, _, pixels = path.read_bytes().partition(b"mdat")
    path.write_bytes(head + b"mdat" + bytes(len(pixels)))
    with pytest.raises(LabError, match=r'"a\.avif" is cut short or damaged'):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif"])
def test_a_file_closed_too_early(tmp_path, suffix):
    """Catches an assertion of Pillow's, and a whole file called damaged."""
    path = save(tmp_path / f"a.{suffix}", PIXELS)
    with Image.open(path) as closed:
        pass
    with pytest.raises(LabError, match=rf'"a.{suffix}" was closed before its pixels were read'):
        read_image(closed)
    with Image.open(path) as loaded:
        loaded.load()
    assert read_image(loaded).shape == (3, 2, 3)


def test_missing_file_and_folder(tmp_path):
    """Catches a message without the path, and a folder taken for a damaged file."""
    with pytest.raises(LabError, match=r'No image at ".*nowhere\.jpg"'):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(LabError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(LabError, match=r'"https://x\.org/a\.jpg" is a web address'):
        read_image("https://x.org/a.jpg")
    with pytest.raises(LabError, match="found int"):
        read_image(3)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_a_large_photo_is_read_without_a_word(tmp_path, monkeypatch, suffix):
    """Catches Pillow's decompression-bomb warning, and its limit left switched off."""
    path = tmp_path / f"large.{suffix}"
    photograph = Image.new("L", (1200, 900), 200)
    photograph.paste(50, (0, 0, 600, 900))
    photograph.save(path, quality=50)
    limit = 10_000  # Pillow's own is 89 megapixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        full = read_image(path)
    assert limit == Image.MAX_IMAGE_PIXELS
    assert full.shape == (3, 900, 1200)
    assert abs(int(full[0, 50, 300]) - 50) < 3
    assert abs(int(full[2, 50, 900]) - 200) < 3


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    """Catches a crafted file of a few bytes that would fill the memory."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(LabError, match=r"bomb\.png.*20000x20000.*300 megapixels"):
        read_image(path)
    assert limit == Image.MAX_IMAGE_PIXELS


BAD_ARRAYS = {
    "channels first": (np.zeros((3, 8, 9), np.uint8), r"transpose\(1, 2, 0\)"),
    "batch": (np.zeros((2, 8, 9, 3), np.uint8), "list of images"),
    "two channels": (np.zeros((8, 9, 2), np.uint8), "8x9x2"),
    "float in 0..255": (np.full((8, 9, 3), 200.0), "from 200.0 to 200.0"),
    "int64": (np.zeros((8, 9, 3), np.int64), "int64"),
    "NaN": (np.full((8, 9, 3), np.nan), "nan"),
    "no pixels": (np.zeros((0, 9, 3), np.uint8), "at least one pixel"),
    "tensor, channels last": (torch.zeros(8, 9, 3), r"permute\(2, 0, 1\)"),
    "tensor, batch": (torch.zeros(1, 3, 8, 9), "list of images"),
    "tensor, normalised": (torch.full((3, 8, 9), -1.5), "before any normalisation"),
    "tensor, int64": (torch.zeros(3, 8, 9, dtype=torch.int64), "int64"),
    "tensor, NaN": (torch.full((3, 8, 9), float("nan")), "nan"),
    "tensor, no pixels": (torch.zeros(3, 0, 9), "at least one pixel"),
    "PIL, no pixels": (Image.new("RGB", (0, 5)), "no pixels"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_an_array_with_an_open_meaning_is_refused(case):
    """Catches a guess: black, transposed or saturated images that nobody asked for."""
    source, message = BAD_ARRAYS[case]
    with pytest.raises(LabError, match=message):
        read_image(source)


def test_grey_and_bool_arrays():
    """Catches a mask that stays at 0 and 1 of 255, and grey without three channels."""
    assert read_image(np.array([[True, False]])).tolist() == [[[255, 0]]] * 3
    assert read_image(np.array([[[7], [8]]], np.uint8)).tolist() == [[[7, 8]]] * 3
    assert read_image(torch.tensor([[[7, 8]]], dtype=torch.uint8)).tolist() == [[[7, 8]]] * 3


def test_image_name(tmp_path):
    """Catches messages with a whole path, or with none of what identifies the input."""
    path = save(tmp_path / "cat.png", PIXELS)
    with Image.open(path) as opened:
        assert image_name(opened) == "cat.png"
    assert image_name(Image.new("RGB", (5, 4))) == "PIL image 5x4"
    assert image_name(PIXELS) == "array 2x3x3"
    assert image_name(torch.zeros(3, 4, 5)) == "tensor 3x4x5"


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (427, 640, (800, 1199)),  # short side binds: 640 * 800 / 427 = 1199.06
        (375, 500, (800, 1067)),  # 1066.67 is rounded, not cut
        (640, 427, (1199, 800)),  # upright
        (300, 1000, (400, 1333)),  # long side binds: 300 * 1.333 = 399.9
        (1, 5000, (1, 1333)),  # never nothing: 1 * 0.27 rounds to 0
    ],
)
def test_resized_size(height, width, expected):
    """Catches another rounding than mmdetection's, which shifts every published number."""
    assert resized_size(height, width, 800, 1333) == expected
    assert resize_image(torch.zeros(3, height, width, dtype=torch.uint8), 800, 1333).shape == (
        3,
        *expected,
    )


def test_resize_keeps_an_image_that_fits_and_antialiases_on_request():
    """Catches a needless resample, an antialias flag not passed on, and a division by zero."""
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[:, :, ::4] = 255
    assert resize_image(stripes, 64, 100) is stripes
    plain = resize_image(stripes, 8, 100, antialias=False)
    smooth = resize_image(stripes, 8, 100, antialias=True)
    assert plain.dtype == smooth.dtype == torch.uint8
    assert plain.float().mean() == 128  # what lies at the sampled points: half on a stripe
    assert abs(smooth.float().mean() - 63.75) < 1  # what is there on average
    with pytest.raises(LabError, match="at least 1"):
        resize_image(stripes, 0, 100)


def test_normalise_first_then_pad_with_zeros():
    """Catches padding before normalising, BGR statistics, centred padding, (w, h) sizes, and one
    multiple too many where the size is right already."""
    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)
    tall = torch.full((3, 40, 5), 50, dtype=torch.uint8)
    wide = torch.full((3, 7, 65), 34, dtype=torch.uint8)
    batch, sizes = normalise_and_pad([tall, wide], mean, std)
    assert batch.shape == (2, 3, 64, 96) and batch.dtype == torch.float32
    assert sizes.tolist() == [[40, 5], [7, 65]] and sizes.dtype == torch.float32
    assert batch[0, :, 39, 4].tolist() == [20.0, 7.5, 2.5]
    assert batch[1, :, 0, 0].tolist() == [12.0, 3.5, 0.5]
    assert batch[0, :, 40:].abs().sum() == 0 and batch[0, :, :, 5:].abs().sum() == 0
    assert batch[1, :, 7:].abs().sum() == 0 and batch[1, :, :, 65:].abs().sum() == 0
    assert (batch[0, :, :40, :5] != 0).all() and (batch[1, :, :7, :65] != 0).all()
    image = torch.zeros(3, 64, 32, dtype=torch.uint8)
    assert normalise_and_pad([image], mean, std)[0].shape == (1, 3, 64, 32)
    assert normalise_and_pad([image], mean, std, 20)[0].shape == (1, 3, 80, 40)
    with pytest.raises(LabError, match="at least one image"):
        normalise_and_pad([], mean, std)
