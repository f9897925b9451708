"""Training augmentation: boxes follow their pixels, and the seed alone decides."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sparse_rcnn_lab import RECIPES, LabError
from sparse_rcnn_lab.core.config import AugmentConfig
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.data.transforms import FILL, Augment, change_colours, fitted_size
from sparse_rcnn_lab.detect.images import resize_to

SMALL = RECIPES["small"].augment
STILL = AugmentConfig(hflip=0.0, size=(60, 90))  # the size of make_sample's image: no change


def make_sample(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (60, 90)) -> Sample:
    """A black image with each box (xyxy) painted white, labelled 0, 1, 2, ..."""
    image = torch.zeros(3, *size, dtype=torch.uint8)
    for x1, y1, x2, y2 in boxes:
        image[:, y1:y2, x1:x2] = 255
    return Sample(
        image=image,
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.arange(len(boxes)),
        image_id=5,
        name="painted.png",
    )


def painted_box(image: Tensor) -> list[int]:
    """xyxy of the white pixels; the fill of a zoomed-out image is grey, so not among them."""
    ys, xs = torch.where((image > 150).all(dim=0))
    return [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


def test_nothing_to_change_gives_the_same_pixels_and_boxes():
    """Catches a resample, a shift or a colour change where the settings ask for none."""
    sample = make_sample((10, 20, 40, 50))
    result = Augment(STILL)(sample, seed=3)
    assert torch.equal(result.image, sample.image)
    assert torch.equal(result.boxes, sample.boxes)
    assert (result.image_id, result.name) == (5, "painted.png")
    assert type(result.image) is Tensor and type(result.boxes) is Tensor


def test_a_flip_moves_boxes_with_their_pixels_exactly():
    """Catches w - 1 - x for w - x, x1 and x2 left in the wrong order, and a vertical flip."""
    sample = make_sample((10, 20, 40, 50))
    result = Augment(replace(STILL, hflip=1.0))(sample, seed=0)
    assert result.boxes.tolist() == [[50, 20, 80, 50]]
    assert painted_box(result.image) == [50, 20, 80, 50]


def test_flips_come_as_often_as_asked():
    """Catches a probability that is ignored or inverted."""
    sample = make_sample((0, 0, 10, 10))
    augment = Augment(replace(STILL, hflip=0.25))
    flips = sum(augment(sample, seed).boxes[0, 0].item() > 0 for seed in range(400))
    assert 70 < flips < 130  # 100 expected, standard deviation 8.7


def test_turns_take_the_boxes_along():
    """Catches sides exchanged, a turn the other way round, one of the three that never comes."""
    sample = make_sample((10, 20, 40, 50))  # of 60 x 90 pixels
    augment = Augment(replace(STILL, turn=1.0, size=(90, 90)))
    results = [augment(sample, seed) for seed in range(30)]
    found = {tuple(result.boxes[0].tolist()) for result in results}
    assert found == {(20, 50, 50, 80), (50, 10, 80, 40), (10, 10, 40, 40)}
    assert all(painted_box(result.image) == result.boxes[0].tolist() for result in results)


@pytest.mark.parametrize("scale", [(0.4, 0.9), (1.0, 1.0), (1.1, 1.6), (0.5, 2.0)])
@pytest.mark.parametrize("size", [(60, 90), (128, 128), (50, 200)])
def test_boxes_stay_on_their_pixels_through_zoom_and_flip(scale, size):
    """Catches offsets in the wrong frame, swapped x and y scales, a flip before the padding."""
    sample = make_sample((36, 22, 58, 37))
    augment = Augment(replace(SMALL, scale=scale, size=size, contrast=0, brightness=0))
    seen = 0
    for seed in range(60):
        result = augment(sample, seed)
        if len(result.boxes):
            seen += 1
            torch.testing.assert_close(
                result.boxes[0], torch.tensor(painted_box(result.image)).float(), atol=1.01, rtol=0
            )
    assert seen > 40


def test_zoom_covers_its_range_on_both_sides():
    """Catches a zoom that only ever enlarges, or a range read as its inverse."""
    sample = make_sample((40, 25, 50, 35))
    augment = Augment(replace(STILL, scale=(0.5, 2.0)))
    widths = [(box[2] - box[0]).item() for s in range(200) for box in augment(sample, s).boxes]
    assert 4.9 < min(widths) < 5.5 and 18 < max(widths) < 20.5
    assert 0.3 < sum(width < 10 for width in widths) / len(widths) < 0.7


def test_zooming_out_pads_with_the_fill_and_leaves_it_alone():
    """Catches padding that is black, or that the colour jitter has changed."""
    sample = make_sample((0, 0, 90, 60))
    config = replace(STILL, scale=(0.5, 0.5), brightness=0.5, hue=0.1)
    for seed in range(10):
        result = Augment(config)(sample, seed)
        x1, y1, x2, y2 = (int(v) for v in result.boxes[0])
        assert (x2 - x1, y2 - y1) == (45, 30)
        outside = torch.ones(60, 90, dtype=torch.bool)
        outside[y1:y2, x1:x2] = False
        assert (result.image[:, outside] == torch.tensor(FILL).view(3, 1)).all()


def test_boxes_mostly_cut_off_are_dropped_with_their_labels():
    """Catches labels that slip against the boxes, a visibility measured after clipping, and boxes
    under one pixel, which have no place on any feature map."""
    tiny = make_sample((10, 10, 12, 40), (40, 10, 60, 40))
    assert Augment(replace(STILL, scale=(0.4, 0.4)))(tiny, seed=0).labels.tolist() == [1]
    boxes = [(0, 0, 30, 20), (35, 20, 55, 40), (60, 40, 90, 60)]
    config = replace(STILL, scale=(2.0, 2.0), min_visible=0.301)  # 0.3 occurs exactly
    augment = Augment(config)
    kept_counts = set()
    for seed in range(100):
        result = augment(make_sample(*boxes), seed)
        window = augment.draw_window(60, 90, torch.Generator().manual_seed(seed))
        top, left, height, width = window.crop
        expected, labels = [], []
        for label, (x1, y1, x2, y2) in enumerate(boxes):
            w = min(x2, left + width) - max(x1, left)
            h = min(y2, top + height) - max(y1, top)
            if w > 0 and h > 0 and w * h >= 0.301 * (x2 - x1) * (y2 - y1):
                expected.append([2.0 * w, 2.0 * h])
                labels.append(label)
        assert result.labels.tolist() == labels
        assert (result.boxes[:, 2:] - result.boxes[:, :2]).tolist() == expected
        kept_counts.add(len(labels))
    assert len(kept_counts) > 1  # else nothing was ever dropped


CROP = AugmentConfig(
    hflip=0.5,
    short_sides=(96, 120),
    long_side=400,
    crop=1.0,
    crop_short_sides=(80, 100),
    crop_size=(48, 90),
    min_visible=0.0,
    min_side=0.0,
)
# Boxes all over an image of 160x200.
GRID = [(x, y, x + 30, y + 24) for y in range(4, 140, 38) for x in range(6, 170, 48)]


def grid_samples() -> list[Sample]:
    """All of GRID's boxes in each; box k is painted in channel k % 3 of sample k // 3 alone."""
    samples = []
    for first in range(0, len(GRID), 3):
        image = torch.zeros(3, 160, 200, dtype=torch.uint8)
        for channel, (x1, y1, x2, y2) in zip(image, GRID[first : first + 3], strict=False):
            channel[y1:y2, x1:x2] = 255
        samples.append(replace(make_sample(*GRID), image=image))
    return samples


def test_a_crop_keeps_clips_and_drops_the_right_boxes():
    """Catches boxes scaled once for two resizes, offsets in source pixels, a box kept that is
    outside or dropped that is inside, labels that slip, and a flip before the crop."""
    augment, samples = Augment(CROP), grid_samples()
    cut = dropped = whole = 0
    for seed in range(30):
        results = [augment(sample, seed) for sample in samples]
        found = dict(zip(results[0].labels.tolist(), results[0].boxes.tolist(), strict=True))
        height, width = results[0].image.shape[1:]
        for label in range(len(GRID)):
            ys, xs = torch.where(results[label // 3].image[label % 3] > 127)
            if label not in found:
                dropped += 1
                assert len(ys) == 0  # nothing of it is to be seen
                continue
            x1, y1, x2, y2 = found[label]
            if min(x2 - x1, y2 - y1) < 3:
                continue  # a sliver may have no pixel to itself
            seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert [int(side) for side in seen] == pytest.approx([x1, y1, x2, y2], abs=1.1)
            inner = x1 > 0 and y1 > 0 and x2 < width and y2 < height
            cut, whole = cut + (not inner), whole + inner
    assert min(cut, dropped, whole) > 50  # every case has come


def test_a_cropped_image_is_resized_twice_as_published():
    """Catches a shortcut from source to result, whose pixels are sharper than the published."""
    augment, sample = Augment(replace(CROP, hflip=0.0)), grid_samples()[0]
    for seed in range(4):
        window = augment.draw_window(160, 200, torch.Generator().manual_seed(seed))
        assert window.first is not None and min(window.first) in (80, 100)
        top, left, height, width = window.crop
        first = resize_to(sample.image, window.first)
        expected = resize_to(first[:, top : top + height, left : left + width], window.frame)
        assert torch.equal(augment(sample, seed).image, expected)


def test_published_recipes_drop_no_box_that_is_left():
    """Catches the small presets' rule, which leaves out what is mostly cut off or tiny."""
    boxes = [(0, 0, 200, 150), (50, 50, 51, 140), (100, 20, 102, 21)]
    sample = make_sample(*boxes, size=(160, 200))
    kept = Augment(replace(RECIPES["r50_3x_100"].augment, short_sides=(40,), hflip=0.0))(sample, 0)
    assert kept.labels.tolist() == [0, 1, 2]  # a quarter of a pixel wide, but there
    pixel = torch.tensor([[127.15, 50, 128.15, 140]])
    moved = replace(sample, boxes=pixel, labels=sample.labels[1:2])
    assert float(moved.boxes[0, 2] - moved.boxes[0, 0]) < 1  # by rounding alone
    published = Augment(replace(RECIPES["r50_3x_100"].augment, short_sides=(160,)))
    assert published(moved, 0).labels.tolist() == [1]
    part = replace(sample, boxes=sample.boxes - torch.tensor([0.0, 0, 0.5, 0]))
    less = Augment(replace(RECIPES["r50_3x_100"].augment, short_sides=(40,), hflip=0.0))(part, 0)
    assert less.labels.tolist() == [0, 2]  # the second was under a pixel as it was labelled


def test_seed_alone_decides_and_the_global_generator_is_left_alone():
    """Catches draws from torch's global state: results that hang on workers or on a resume; and
    work in place, which would poison a cached data set."""
    sample = make_sample((36, 22, 58, 37))
    image, boxes = sample.image.clone(), sample.boxes.clone()
    augment = Augment(SMALL)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = augment(sample, seed=11)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = augment(sample, seed=11)
    assert torch.equal(first.image, again.image) and torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.image, augment(sample, seed=12).image)
    Augment(replace(STILL, hflip=1.0, brightness=0.5))(sample, seed=11)
    assert torch.equal(sample.image, image) and torch.equal(sample.boxes, boxes)


def test_published_multi_scale_draws_every_short_side():
    """Catches a single size, a long side that is not capped, and boxes left at the old scale."""
    config = AugmentConfig(hflip=0.0, short_sides=(30, 45, 120), long_side=150)
    sample = make_sample((30, 20, 60, 40))
    shapes = {}
    for seed in range(30):
        result = Augment(config)(sample, seed)
        shapes[tuple(result.image.shape[1:])] = result.boxes[0].tolist()
    assert shapes == {
        (30, 45): [15, 10, 30, 20],
        (45, 68): pytest.approx([30 * 68 / 90, 15, 60 * 68 / 90, 30]),
        (100, 150): pytest.approx([50, 100 / 3, 100, 200 / 3]),  # 120 would make 180 wide
    }


def test_fixed_size_keeps_the_aspect():
    """Catches a squashed image, and height taken for width."""
    assert fitted_size(60, 90, (320, 320)) == (213, 320)
    assert fitted_size(90, 60, (320, 320)) == (320, 213)
    assert fitted_size(100, 100, (64, 200)) == (64, 64)
    assert fitted_size(1, 1000, (32, 32)) == (1, 32)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_images_of_one_pixel_and_no_boxes_pass(size):
    """Catches crops of zero pixels, and a [0] where [0, 4] is meant."""
    for seed in range(20):
        result = Augment(SMALL)(make_sample(size=size), seed)
        assert result.boxes.shape == (0, 4) and result.labels.shape == (0,)
        assert min(result.image.shape) >= 1 and max(result.image.shape[1:]) == 320


def test_each_colour_change_does_what_its_name_says():
    """Catches swapped factors, a contrast about black, wrap-around instead of clipping, and BGR."""
    ends = torch.tensor([[255, 0], [0, 0], [0, 255]], dtype=torch.uint8).view(3, 1, 2)
    grey = change_colours(ends, saturation=0.0)[:, 0].T.tolist()
    assert grey == [[76] * 3, [29] * 3]  # of red, of blue
    image = torch.tensor([[60, 200], [60, 100], [60, 20]], dtype=torch.uint8).view(3, 1, 2)
    assert change_colours(image) is image
    assert change_colours(image, brightness=0.5).flatten().tolist() == [30, 100, 30, 50, 30, 10]
    assert change_colours(image, brightness=2.0).flatten().tolist() == [120, 255, 120, 200, 120, 40]
    # Mean grey: (60 + 0.299 * 200 + 0.587 * 100 + 0.114 * 20) / 2 = 90.39
    assert change_colours(image, contrast=0.0).unique().tolist() == [90]
    assert change_colours(image, contrast=2.0)[:, 0, 0].tolist() == [30] * 3
    assert change_colours(image, contrast=2.0)[:, 0, 1].tolist() == [255, 110, 0]
    turned = change_colours(image, hue=0.3)
    assert turned[:, 0, 0].tolist() == [60] * 3  # grey has no hue
    assert turned[1, 0, 1] > turned[0, 0, 1]  # orange turns towards green, not pink
    near = change_colours(image, saturation=1.5)[:, 0, 1].float()
    assert near.max() - near.min() > 200 - 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": (0.0, 1.0)}, "scale is"),
        ({"scale": (1.5, 0.5)}, "scale is"),
        ({"hflip": 1.5}, "hflip must be in 0..1"),
        ({"hue": 0.6}, r"hue must be in 0\.\.0\.5"),
        ({"contrast": -0.1}, "contrast"),
        ({"size": None, "short_sides": ()}, "short_sides"),
        ({"crop": 0.5}, "crop needs crop_short_sides"),
        ({"crop": 1.5}, r"crop must be in 0\.\.1"),
        ({"crop": 0.5, "size": None, "crop_size": (600, 384)}, "crop_size is"),
        ({"min_visible": -0.1}, "min_visible"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    """Catches a training run that fails, or goes quietly wrong, at its first image."""
    with pytest.raises(LabError, match=message):
        Augment(replace(STILL, **changes))
