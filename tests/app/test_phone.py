"""The app on a phone: one opening of the page, in dark and then in light, tab by tab."""

import pytest
from app_models import LOOK, explored, tab
from browser import PATIENCE, Watched, keep_shot

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser


def contrasts(page):
    """The text on screen whose contrast is below WCAG AA's 4.5 (3 where it is large), with it."""
    return page.evaluate(
        """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => { const f = (v) => { v /= 255;
    return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c; if (c[3] > 0) return null; }
    return [255, 255, 255]; };
  const out = [];
  const seen = { opacityProperty: true, visibilityProperty: true };
  const skip = ':disabled, [aria-disabled=true], script, style, noscript';
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement; if (!n.textContent.trim() || !e.checkVisibility(seen)) continue;
    if (e.getBoundingClientRect().width < 2 || e.closest(skip)) continue;
    const s = getComputedStyle(e); const back = ground(e); if (!back) continue;
    const [a, b] = [light(parse(s.color)), light(back)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05); const big = parseFloat(s.fontSize) >= 24;
    const text = n.textContent.trim().slice(0, 40);
    if (ratio < (big ? 3 : 4.5)) out.push(`${ratio.toFixed(1)} ${text}`);
  }
  return out; }"""
    )


def nameless(page):
    """The controls on screen that a screen reader cannot name."""
    return page.evaluate(
        """() => [...document.querySelectorAll('button, select, input, canvas[tabindex]')]
  .filter((e) => e.checkVisibility() && e.getBoundingClientRect().width > 4)
  .filter((e) => !e.closest('.lab-hidden') && e.type !== 'file')
  .filter((e) => !(e.innerText || e.ariaLabel || e.title || e.placeholder || e.labels?.length
    || e.querySelector('img[alt]:not([alt=""])') || e.getAttribute('aria-labelledby')))
  .map((e) => e.outerHTML.slice(0, 120))"""
    )


def small(page):
    """The controls on screen that a finger would miss: lower than 44 px."""
    return page.evaluate(
        """() => [...document.querySelectorAll('button, select, input, summary')]
  .filter((e) => e.checkVisibility() && !e.closest('.lab-hidden') && e.type !== 'file')
  .filter((e) => e.tabIndex >= 0) // the others are Gradio's, to measure by
  .map((e) => [e, (e.closest('label') ?? e).getBoundingClientRect()])
  .filter(([e, r]) => r.width > 4 && Math.max(r.height, e.getBoundingClientRect().height) < 43.5)
  .map(([e, r]) => `${Math.round(r.height)} ${e.outerHTML.slice(0, 110)}`)"""
    )


def themed(page, scheme):
    """The page once it has followed the system to light or dark, every colour at its end."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(
        "(dark) => document.body.classList.contains('dark') === dark"
        " && !document.getAnimations().some((one) => one instanceof CSSTransition)",
        arg=scheme == "dark",
        polling=LOOK,
    )


def test_a_phone_in_both_themes(browser, url):
    """Catches a page wider than a phone, an image that scrolls away from its controls, targets too
    small for a finger, words too faint to read, controls without a name, and a page that does not
    follow the system from dark to light."""
    watched = Watched(
        browser,
        *(390, 844),
        **{"color_scheme": "dark", "has_touch": True, "is_mobile": True},
        reduced_motion="reduce",
    )
    page = watched.page
    page.goto(url, timeout=PATIENCE)
    explored(page, "true")
    page.wait_for_selector("#lab-opening", state="detached")
    tabs = page.locator("#lab-tabs > .tab-wrapper [role=tab]")
    assert tabs.count() == 7  # each at sight, none behind a menu
    for place in range(7):
        left, _, wide, _ = tabs.nth(place).bounding_box().values()
        assert left >= 0 and left + wide <= 390
    for name in ("photo", "video", "compare", "live", "draw", "explore"):
        tab(page, name)
        page.wait_for_timeout(400)
        if name == "photo":
            page.wait_for_selector("#lab-result img")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        assert nameless(page) == [], name
        assert small(page) == [], name
        for scheme in ("dark", "light"):
            themed(page, scheme)
            assert contrasts(page) == [], (name, scheme)
            keep_shot(page, f"app-phone-{name}-{scheme}")
    for name, control, shown in (
        ("explore", ".srl-editcard", ".srl-pictures"),
        ("photo", "#lab-classes", "#lab-result"),
    ):
        tab(page, name)
        page.wait_for_selector(shown)
        page.evaluate("(s) => document.querySelector(s).scrollIntoView({ block: 'end' })", control)
        page.wait_for_timeout(200)
        top, bottom = page.evaluate(
            "(s) => { const r = document.querySelector(s).getBoundingClientRect();"
            " return [r.top, r.bottom] }",
            shown,
        )
        assert top >= 0 and bottom <= 844, name
    watched.clean()
