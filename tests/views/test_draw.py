"""What is drawn where: boxes, labels, colours."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_explorer_payload import made_trace

from sparse_rcnn_lab import Detections, LabError
from sparse_rcnn_lab.views import fonts, style
from sparse_rcnn_lab.views.draw import (
    Mark,
    display_size,
    draw_detections,
    draw_marks,
    label_tile,
    proposal_marks,
)
from sparse_rcnn_lab.views.figures.canvas import Page, text_width
from sparse_rcnn_lab.views.text_layout import place_labels

GREY = (128, 128, 128)


def detections(boxes, scores, labels=None, size=(200, 300), names=("", "")):
    k = len(boxes)
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).view(k, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor([0] * k if labels is None else labels),
        torch.arange(k),
        size,
        names,
    )


def grey(width=300, height=200):
    return Image.new("RGB", (width, height), GREY)


side = st.integers(-20, 320)
crowd = st.lists(st.tuples(side, side, st.integers(1, 200), st.integers(1, 200)), max_size=30)


@given(crowd, st.integers(10, 90))
def test_labels_never_overlap_or_leave_the_image(corners, wide):
    """Catches a candidate place that is not clipped, and one tested against too few labels."""
    boxes = [(x, y, x + w, y + h) for x, y, w, h in corners]
    sizes = [(wide + 3 * i % 20, 14) for i in range(len(boxes))]
    places = place_labels(boxes, sizes, 300, 200)
    put = [(*p, p[0] + w, p[1] + h) for p, (w, h) in zip(places, sizes, strict=True) if p]
    assert all(x1 >= 0 and y1 >= 0 and x2 <= 300 and y2 <= 200 for x1, y1, x2, y2 in put)
    for a, b in itertools.combinations(put, 2):
        assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3], (a, b)


def test_a_label_sits_on_its_box_and_goes_inside_at_the_upper_edge():
    """Catches labels that float away from a box with room around it, or hang out at the top."""
    above, inside = place_labels([(50, 60, 150, 160), (200, 0, 290, 150)], [(40, 14)] * 2, 300, 200)
    assert above == (50, 46)
    assert inside == (200, 0)


def test_two_objects_at_one_place_both_get_a_label():
    """Catches giving up after the first place is taken."""
    places = place_labels([(50, 60, 150, 160)] * 4, [(60, 14)] * 4, 300, 200)
    assert None not in places and len(set(places)) == 4


def test_a_label_that_cannot_fit_is_left_out():
    """Catches squeezing a label wider than the image into it."""
    assert place_labels([(0, 0, 10, 10)], [(40, 14)], 30, 30) == [None]
    many = place_labels([(0, 0, 30, 30)] * 20, [(30, 14)] * 20, 30, 30)
    assert many[0] is not None and many[-1] is None


def test_only_the_outline_changes():
    """Catches x and y swapped, boxes filled, and a line beside the edge instead of on it."""
    image = np.array(draw_detections(grey(), detections([[60, 40, 200, 90]], [1.0]), scores=False))
    changed = (image != 128).any(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert abs((rows[0] + rows[-1] + 1) / 2 - 65) <= 0.5
    assert abs((columns[0] + columns[-1] + 1) / 2 - 130) <= 0.5
    assert not changed[50:80, 70:190].any()
    np.testing.assert_allclose(image[40, 130], style.rgb(style.class_color(0)), atol=3)


def test_half_a_pixel_is_half_covered():
    """Catches lines rounded to whole pixels, which make a box tremble as it moves."""
    black = Image.new("RGB", (200, 200))

    def across(left):
        marks = [Mark((left, 50.0, 90.0, 90.0), "#ffffff")]
        return np.array(draw_marks(black, marks))[70, 48:54, 0].astype(int)

    on, between = across(51.0), across(51.5)  # a line of 2 pixels: 50..52, then 50.5..52.5
    assert on[2] == on[3] == 255 and on[1] < 20 and on[4] < 20
    assert between[3] == 255 and between[2] == between[4] and 100 < between[2] < 155


def test_score_is_opacity_and_the_best_lies_on_top():
    """Catches score drawn the wrong way round, and a weak box hiding a strong one."""
    found = detections([[20, 50, 80, 150], [120, 50, 180, 150]], [0.95, 0.2])
    image = np.array(draw_detections(grey(), found, scores=False)).astype(int)
    strength = np.abs(image - 128).sum(-1)
    assert strength[100, 18:23].max() > 1.3 * strength[100, 118:123].max()
    both = detections([[20, 50, 80, 150]] * 2, [0.9, 0.5], [0, 1])
    pixel = np.array(draw_detections(grey(), both, scores=False))[50, 50].astype(int)
    first, second = (np.array(style.rgb(style.class_color(i))) for i in (0, 1))
    assert np.abs(pixel - first).sum() < np.abs(pixel - second).sum()


def test_ground_truth_is_dashed_white():
    """Catches a solid line, which could not be told from a detection, and boxes left out."""
    empty = detections(torch.zeros(0, 4).tolist(), [], [])
    image = np.array(draw_detections(grey(), empty, gt_boxes=torch.tensor([[20.0, 20, 280, 180]])))
    edge = image[20, 30:270].astype(int).sum(-1)
    assert (edge > 700).any() and (edge == 3 * 128).any()


def test_small_images_are_enlarged_with_their_boxes():
    """Catches boxes left in the small image's pixels."""
    found = detections([[16, 16, 48, 48]], [1.0], size=(64, 64))
    small = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    shown = draw_detections(small, found, scores=False, min_side=256)
    assert shown.size == (256, 256)
    pixels = np.array(shown)
    assert tuple(pixels[128, 64]) != GREY and tuple(pixels[128, 192]) != GREY
    assert tuple(pixels[32, 32]) == GREY


@pytest.mark.parametrize(
    ("size", "shown"),
    [((100, 50), (600, 300)), ((600, 10), (600, 10)), ((4000, 2000), (1000, 500))],
)
def test_display_size(size, shown):
    """Catches a fraction as factor (uneven pixels), and the aspect lost when shrinking."""
    assert display_size(*size, min_side=512, max_side=1000) == shown


def test_boxes_of_another_image_are_refused():
    """Catches drawing detections of the resized image on the original, silently shifted."""
    with pytest.raises(LabError, match="300x200"):
        draw_detections(grey(400, 200), detections([[0, 0, 9, 9]], [0.5]))


def test_an_image_is_read_as_the_detector_reads_it(tmp_path):
    """Catches a photograph drawn as its camera stored it, on its side, what is transparent drawn
    black, and a path or an array that ends in a traceback."""
    pixels = np.zeros((40, 60, 4), np.uint8)  # transparent
    pixels[:10] = (200, 0, 0, 255)
    photo = Image.fromarray(pixels)
    exif = photo.getexif()
    exif[0x0112] = 6  # to be turned clockwise
    photo.save(tmp_path / "photo.png", exif=exif)
    nothing = detections([], [], size=(60, 40))
    upright = np.array(draw_detections(tmp_path / "photo.png", nothing))
    assert upright.shape == (60, 40, 3)
    assert (upright[:, 30:] == (200, 0, 0)).all() and (upright[:, :30] == 255).all()
    for image in (Image.open(tmp_path / "photo.png"), upright, str(tmp_path / "photo.png")):
        assert (np.array(draw_detections(image, nothing)) == upright).all()


@pytest.mark.parametrize(
    "box", [(-50, -50, -10, -10), (10, 10, 10, 10), (-20, 5, 500, 7), (40, 60, 20, 30)]
)
def test_odd_boxes_draw_without_harm(box):
    """Catches a negative slice, which wraps to the other side of the image."""
    image = np.array(draw_marks(grey(), [Mark(box, "#ff0000", label="a")]))
    assert image.shape == (200, 300, 3)
    if box[2] < 0:  # its label is pushed into the image, its lines are not
        assert (image[100:] == 128).all() and (image[:, 150:] == 128).all()


def lightness(color):
    y = style.luminance(color)
    return 116 * y ** (1 / 3) - 16


def test_stages_get_lighter():
    """Catches a scale whose order is lost in grey print and to colour-blind eyes."""
    for count in (1, 3, 6, 9):
        steps = [lightness(style.stage_color(s, count)) for s in range(1, count + 1)]
        assert all(b > a + 2 for a, b in itertools.pairwise(steps))
    with pytest.raises(LabError):
        style.stage_color(7)


# Linear RGB as seen without the long or the medium wavelength cones (Viénot, Brettel, Mollon 1999).
PROTAN = [[0.11238, 0.88762, 0], [0.11238, 0.88762, -0.0], [0.00401, -0.00401, 1]]
DEUTAN = [[0.29275, 0.70725, 0], [0.29275, 0.70725, -0.0], [-0.02234, 0.02234, 1]]


@pytest.mark.parametrize("seen", [np.eye(3).tolist(), PROTAN, DEUTAN])
def test_class_colors_can_be_told_apart(seen):
    """Catches a pair of class colours, or a class and the accent, that look alike to somebody."""
    colors = [*style.CLASS_COLORS, style.ACCENT]
    linear = (np.array([style.rgb(c) for c in colors]) / 255) ** 2.2
    shown = np.clip(linear @ np.array(seen).T, 0, 1) ** (1 / 2.2) * 255
    for (i, a), (j, b) in itertools.combinations(enumerate(shown), 2):
        assert np.linalg.norm(a - b) > 28, (colors[i], colors[j])


@pytest.mark.parametrize("shade", range(0, 256, 51))
@pytest.mark.parametrize("count", [20, 100])
def test_learned_boxes_are_seen_on_every_shade(shade, count):
    """Catches a grey line lost on a grey image, and many boxes drawn too faint to be seen."""
    trace = made_trace(count, 2, size=(200, 300))
    trace.boxes[0] = torch.tensor([60.0, 40, 200, 90])
    trace.boxes[0, 1:] = torch.tensor([400.0, 300, 500, 400])  # outside: one box alone is looked at
    image = Image.new("RGB", (300, 200), (shade,) * 3)
    across = np.array(draw_marks(image, proposal_marks(trace, 0)))[36:45, 130].tolist()
    shades = [style.luminance(f"#{r:02x}{g:02x}{b:02x}") + 0.05 for r, g, b in across]
    assert max(shades) / min(shades) > 1.5


def test_more_learned_boxes_are_fainter():
    """Catches hundreds of boxes that hide the image, and none at all."""
    strengths = [style.learned_opacity(count) for count in (0, 1, 40, 100, 300, 5000)]
    assert strengths[0] == strengths[2] == 0.9 and strengths == sorted(strengths, reverse=True)
    assert 0.4 < strengths[-1] < strengths[3] < 0.9


def test_label_text_is_readable():
    """Catches white on yellow: WCAG asks for a contrast of 4.5."""
    for color in (*style.CLASS_COLORS, style.ACCENT, style.LIGHT, *style.STAGE_COLORS):
        one, two = style.luminance(color) + 0.05, style.luminance(style.text_color(color)) + 0.05
        assert max(one, two) / min(one, two) >= 4.5, color


def test_a_box_that_is_not_a_number_is_told():
    """Catches boxes that vanish from an image in silence, and NaN that reaches the pixels."""
    nan = float("nan")
    with pytest.warns(UserWarning, match="1 of 2 boxes"):
        image = draw_detections(grey(), detections([[nan] * 4, [20, 20, 90, 90]], [0.9, 0.9]))
    assert np.array(image).reshape(-1, 3).min(0).tolist() != list(GREY)


@pytest.mark.parametrize("name", ["τρίγωνο", "кв-т", "Žlutý", "قلب", "→ é ♥", "äfé"])
def test_names_in_scripts_that_matplotlibs_font_has(name, monkeypatch):
    """Catches letters drawn as the box that stands for a missing one."""
    monkeypatch.setattr(fonts, "_said", set())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (
            np.asarray(label_tile(text, "#000000", 40, 900).convert("L"))
            for text in (name[0] * 2, name[-1] * 2)
        )
        page = Page(3, 2)
        page.write_title(name)
        page.canvas.draw()
    assert first.shape != second.shape or (first != second).any()
    assert fonts.font_for(name)[0] == fonts.OURS


def test_names_that_no_font_has_are_said_once(monkeypatch):
    """Catches boxes in place of letters without a word, a warning for each letter, and a crash."""
    monkeypatch.setattr(fonts, "_said", set())
    ours = fonts._fonts()[:1]
    monkeypatch.setattr(fonts, "_fonts", lambda: ours)
    fonts._font_with.cache_clear()
    with pytest.warns(UserWarning, match="No font of this system has some letters") as said:
        for name in ("圆形", "별", "🐕 dog"):
            label_tile(name, "#010101", 20, 300)
            page = Page(3, 2)
            page.write_title(name)
            assert text_width(name, 10) > 0
            page.canvas.draw()
    assert len(said) == 1
    fonts._font_with.cache_clear()


def test_a_name_in_a_font_of_the_system(monkeypatch):
    """Catches a system's font that is not asked, or asked before ours; and one that has a box for
    every letter, which comes with matplotlib."""
    assert not any("Last Resort" in name for name, _ in fonts._fonts())
    font = ("Other", "other.ttf")
    monkeypatch.setattr(fonts, "_said", set())
    monkeypatch.setattr(fonts, "_fonts", lambda: [(fonts.OURS, "ours.ttf"), font])
    digits = "….0123456789"
    have = {"ours.ttf": frozenset(digits + "é"), "other.ttf": frozenset(digits + "圆形 ")}
    monkeypatch.setattr(fonts, "_letters", have.__getitem__)
    fonts._font_with.cache_clear()
    assert fonts.font_for(" 圆形") == font and fonts.font_for("é")[0] == fonts.OURS
    assert fonts.font_for("plain…") is None and not fonts._said
    fonts._font_with.cache_clear()
