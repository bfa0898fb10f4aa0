"""The page in a browser: what it shows against the trace, to the digits shown; each panel, both themes, two widths."""

import math
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.explorer import Explorer, shelf_of, write_page
from handgrad.explorer.mutants import find, first_wrong, spread
from handgrad.model import load
from handgrad.proof import Trace, trace
from handgrad.training import create_run, make_recipe, read_data

from .conftest import TEXT, explorer_of, model_of, served

pytestmark = pytest.mark.usefixtures("browser")
Open = Callable[..., Any]
LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SLIDER = "#nudge-step"
PANELS = ("tensor", "sheet", "nudge", "flow", "mutants", "training")
MISTAKE = "dk_not_transposed"


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Open]:
    """Opens the page at a view; in the end nothing may have gone wrong in it, and nobody else been asked."""
    complaints: list[str] = []
    contexts = []

    def complain(text: str, expected: str | None) -> None:
        if expected is None or expected not in text:
            complaints.append(text)

    def open_page(
        view: str = "",
        at: str = address,
        size: dict[str, int] = LAPTOP,
        ready: bool = True,
        refused: bool = False,
        **options: Any,
    ) -> Any:
        context = browser.new_context(viewport=size, **options)
        contexts.append(context)
        page = context.new_page()
        expected = "status of 422" if refused else None  # a browser complains of what was refused, too
        page.on("console", lambda message: complain(f"{message.type}: {message.text}", expected))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if is_foreign(asked.url, at) else None)
        page.goto(f"{at}#{view}")
        if ready:
            page.wait_for_selector("body[data-ready]")
            settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def is_foreign(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))


def until(page: Any, condition: str, seconds: float = 15) -> None:
    """Wait for a condition; Playwright's own way is an `eval` in the page, which its policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"not within {seconds} seconds: {condition}"
        time.sleep(0.02)


def settle(page: Any) -> None:
    """Wait until the panel is there and nothing is being computed."""
    until(page, "!document.querySelector('#main[aria-busy=true], #panel[data-drawing], #panel .flow [aria-busy=true]')")
    assert page.locator("#panel .alert").count() == 0


@pytest.fixture(scope="module")
def traced() -> Trace:
    return trace(model_of(), TEXT)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of twelve updates."""
    folder = tmp_path_factory.mktemp("explorer")
    data = folder / "text.txt"
    data.write_text("a small text, again and again. " * 60)
    sizes = {"layers": 1, "heads": 2, "width": 8, "hidden": 8, "context": 16}
    settings = {**sizes, "steps": 12, "evaluations": 3, "keep": True}
    with create_run(folder / "run", "tiny", make_recipe(settings, "tiny"), read_data([str(data)])) as run:
        for _ in run.train():
            pass
    return folder / "run"


@pytest.fixture(scope="module")
def of_a_run(run_folder: Path) -> Iterator[str]:
    """The address of the explorer of a run."""
    with served(Explorer(shelf_of(run_folder, load(run_folder)))) as address:
        yield address


def number(text: str) -> float:
    """A number as the page writes it, with a real minus sign."""
    return float(text.replace("\N{MINUS SIGN}", "-").replace("∞", "inf").replace(",", ""))


def shown(page: Any, name: str) -> float:
    return number(page.inner_text(f"[data-value={name}]").split("\n")[0].split(" ")[0])


@pytest.mark.parametrize(
    ("name", "at", "index"),
    [
        ("blocks.1.attention.weights", "head=1&at=5,3", (0, 1, 5, 3)),
        ("blocks.0.attention.masked_scores", "head=0&at=2,7", (0, 0, 2, 7)),
        ("blocks.1.residual_1", "at=4,9", (0, 4, 9)),
        ("head.logits", "at=3,108", (0, 3, 108)),
        ("loss", "at=0,0", ()),
        ("blocks.0.feed_forward.w_gate", "at=15,23", (15, 23)),
        ("blocks.0.norm_2.gamma", "at=0,11", (11,)),
    ],
)
def test_every_digit_is_the_traces(opened: Open, traced: Trace, name: str, at: str, index: tuple[int, ...]) -> None:
    page = opened(f"node={name}&{at}")
    of_activation = name in traced.activations
    value = (traced.activations if of_activation else traced.parameters)[name][index]
    gradient = (traced.cotangents if of_activation else traced.gradients)[name][index]
    assert (shown(page, "value"), shown(page, "gradient")) == (float(value), float(gradient))


def test_the_pointer_tells_what_is_under_it(opened: Open, traced: Trace) -> None:
    page = opened("node=blocks.0.norm_1.output")
    canvas = page.locator(".heat canvas").first
    box, sizes = canvas.bounding_box(), page.evaluate("document.querySelector('.heat canvas').style.width")
    assert sizes.endswith("px")
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] - 4)  # the last row and column
    until(page, "document.querySelector('.where').textContent.includes('width 15')")
    assert shown(page, "value") == traced.activations["blocks.0.norm_1.output"][0, -1, -1]
    canvas.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    until(page, "document.querySelector('.where').textContent.includes('width 14')")
    assert shown(page, "gradient") == traced.cotangents["blocks.0.norm_1.output"][0, -2, -2]
    assert "cotangent" in page.inner_text("#said")


def test_the_softmax_line_has_its_numbers(opened: Open, traced: Trace) -> None:
    page = opened("node=blocks.1.attention.weights&head=1&at=6,2")
    scope = "blocks.1.attention."
    S, E = traced.activations[scope + "weights"][0, 1, 6], traced.cotangents[scope + "weights"][0, 1, 6]
    dz = S[2] * (E[2] - (E * S).sum())
    assert shown(page, "computed") == pytest.approx(dz, rel=1e-5)
    assert shown(page, "traced") == traced.cotangents[scope + "masked_scores"][0, 1, 6, 2]
    numbers = re.findall("\N{MINUS SIGN}?\\d[\\d.]*(?:e[\N{MINUS SIGN}\\d]+)?", page.inner_text("[data-line=softmax]"))
    assert [number(text) for text in numbers[1:4]] == pytest.approx([S[2], E[2], (E * S).sum()], rel=1e-5)
    page.click("text=The whole row")
    page.wait_for_selector(".softmax tbody tr")
    assert page.locator(".softmax tbody tr").count() == 7  # the keys up to the query's own
    assert page.inner_text(".softmax caption") == "The 7 keys that position 6 sees"
    first = opened("node=blocks.1.attention.weights&head=1&at=0,0")
    first.click("text=The whole row")
    assert first.inner_text(".softmax caption") == "The 1 key that position 0 sees"


def test_statistics_and_shares_are_the_traces(opened: Open, traced: Trace) -> None:
    page = opened("node=blocks.0.residual_1")
    rows = {row[0]: row[1:] for row in (text.split("\t") for text in page.locator("tbody tr").all_inner_texts())}
    x, dx = traced.activations["blocks.0.residual_1"], traced.cotangents["blocks.0.residual_1"]
    measures: dict[str, Any] = {
        "mean": np.mean,
        "standard deviation": np.std,
        "norm": np.linalg.norm,
        "largest": np.max,
    }
    for title, measure in measures.items():
        assert [number(text) for text in rows[title]] == pytest.approx([measure(x), measure(dx)], rel=5e-6)
    past = traced.cotangents["blocks.0.residual_2"]
    norm, share = rows["blocks.0.residual_2"]
    assert number(norm) == pytest.approx(np.linalg.norm(past), rel=5e-6)
    assert number(share.split()[0]) == pytest.approx(100 * np.vdot(past, dx) / np.vdot(dx, dx), abs=0.6)


def test_the_map_is_the_dataflow(opened: Open, traced: Trace) -> None:
    page = opened("open=0,1")
    drawn = page.eval_on_selector_all(".node", "nodes => nodes.map(node => node.dataset.name)")
    assert sorted(drawn) == sorted([*traced.activations, *traced.parameters])
    label = page.get_attribute("[data-name='blocks.1.attention.q']", "aria-label")
    norm = np.linalg.norm(traced.cotangents["blocks.1.attention.q"])
    assert number(label.split()[-1]) == pytest.approx(norm, rel=6e-3)
    titles = page.eval_on_selector_all(".ribbon title", "all => all.map(title => title.textContent)")
    assert any("back from blocks.1.attention.q to blocks.1.norm_1.output" in title for title in titles)
    ribbon = "[g.querySelector('title').textContent, g.querySelector('.backward').getAttribute('stroke-width')]"
    found = page.eval_on_selector_all(".ribbon", f"all => all.map(g => {ribbon})")
    by_norm = sorted((number(title.partition("norm ")[2].split(",")[0]), float(width)) for title, width in found)
    widths = [width for _, width in by_norm]
    assert widths == sorted(widths)
    assert widths[-1] - widths[0] == pytest.approx(3 * math.log10(by_norm[-1][0] / by_norm[0][0]), abs=0.05)


def test_blocks_fold_and_keys_go_about(opened: Open) -> None:
    page = opened("node=blocks.0.attention.q&open=0")
    unfolded = page.locator(".node").count()
    page.click("[data-name='blocks.0'] .hit")
    until(page, f"document.querySelectorAll('.node').length < {unfolded}")
    assert "open" not in page.url or "open=&" in page.url + "&"
    page.focus("[data-name='embedding.output']")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    focused = page.evaluate("document.activeElement.dataset.name")
    assert focused != "embedding.output"
    page.focus("[data-name='head.logits']")
    page.keyboard.press("Enter")
    settle(page)
    assert page.inner_text("#detail-title") == "head.logits"


def test_formula_and_code(opened: Open) -> None:
    page = opened("node=blocks.1.norm_1.output&panel=sheet")
    forward, backward = page.locator(".half").all()
    assert "layer_norm_forward" in forward.inner_text()
    assert forward.locator("math mfrac").count() >= 1
    assert [text.strip() for text in forward.locator(".marked > span").all_inner_texts()] == [
        "y = x_hat * gamma",
        "y += beta",
    ]
    assert "multi_head_attention_backward" in backward.inner_text()


def test_nudging_agrees_with_the_gradient(opened: Open, traced: Trace) -> None:
    page = opened("node=blocks.1.attention.q&head=1&at=4,3&panel=nudge")
    page.wait_for_selector("[data-value=ratio]")
    gradient = traced.cotangents["blocks.1.attention.q"][0, 1, 4, 3]
    assert shown(page, "gradient") == gradient
    assert shown(page, "complex") == pytest.approx(gradient, rel=1e-11)
    slide = "slider => { slider.value = 45; slider.dispatchEvent(new Event('input')); }"
    page.eval_on_selector("#nudge-step", slide)
    until(page, "document.querySelector('.nudge').dataset.shows === '45'")
    assert abs(shown(page, "ratio") - 1) < 1e-3
    assert shown(page, "actual") == pytest.approx(shown(page, "predicted"), rel=1e-3)
    assert page.locator(".chart").count() == 2
    page.fill("[data-key=axis-D]", "5")
    page.keyboard.press("Tab")
    until(page, "location.hash.includes('at=4%2C5')")
    settle(page)
    assert shown(page, "gradient") == traced.cotangents["blocks.1.attention.q"][0, 1, 4, 5]


def test_a_nudge_finds_a_mistake_out(opened: Open, traced: Trace) -> None:
    page = opened(f"node=blocks.1.attention.k&head=1&at=4,3&panel=nudge&mutation={MISTAKE}")
    page.wait_for_selector("[data-value=ratio]")
    _, made = spread(traced, find(MISTAKE), lambda: None)
    key, at = "cotangents/blocks.1.attention.k", (0, 1, 4, 3)
    wrong, right = made[key][at], traced.recorded[key][at]
    assert shown(page, "gradient") == wrong
    assert shown(page, "complex") == pytest.approx(right, rel=1e-11)
    assert shown(page, "ratio") == pytest.approx(right / wrong, rel=1e-2)


def test_flow_has_every_choice(opened: Open, traced: Trace) -> None:
    page = opened("panel=flow&layers=3")
    boxes = page.locator(".toggles input")
    assert boxes.count() == 6
    for n in range(6):
        boxes.nth(n).check()
    boxes.nth(3).evaluate("box => { box.click(); box.click(); box.click(); }")  # off, on, off, before any answer
    settle(page)
    assert page.locator(".chart").first.locator(".series").count() == 5
    boxes.nth(3).check()
    settle(page)
    page.locator(".chart summary").first.click()
    page.wait_for_selector(".chart tbody tr")
    rows = [text.split("\t") for text in page.locator(".chart").first.locator("tbody tr").all_inner_texts()]
    assert [row[0] for row in rows[:3]] == ["embedding.output", "blocks.0.residual_1", "blocks.0.residual_2"]
    assert number(rows[0][1]) == pytest.approx(traced.activations["embedding.output"].std(), rel=1e-3)
    assert len(rows) == 7
    assert "embed" in (page.locator(".chart").first.locator("svg").text_content() or "")


def test_a_mistake_spreads_and_is_judged(opened: Open, traced: Trace) -> None:
    page = opened("node=blocks.0.attention.k&open=0,1&panel=mutants")
    page.fill("input[type=search]", "transposed")
    page.click(f".catalogue [data-key={MISTAKE}]")
    page.wait_for_selector(".spread")
    wrongs, made = spread(traced, find(MISTAKE), lambda: None)
    first = first_wrong(wrongs)
    assert first is not None
    assert first.replace("/", " ") in page.inner_text(".result")
    listed = [text.split("\n") for text in page.locator(".spread li").all_inner_texts()]
    assert [lines[0] for lines in listed] == [wrong.key.replace("/", " ") for wrong in wrongs]
    for lines, wrong in zip(listed, wrongs, strict=True):
        if wrong.error is not None and wrong.error > 1e-12:
            assert number(lines[-1].split()[0]) == pytest.approx(100 * wrong.error, rel=0.06)
        else:
            assert lines[-1] == "right"
    page.wait_for_selector("[data-verdict]", timeout=60_000)
    assert "Caught" in page.inner_text(".verdict")
    assert page.locator(".verdict .series").count() == 2
    page.click("[data-name='blocks.0.attention.k']")
    page.wait_for_selector(".readout")
    page.click("#tab-tensor")
    settle(page)
    where = page.inner_text(".where")
    words = ("head of keys", "key", "width of the head")
    head, row, column = (int(re.findall(rf"{word} (\d+)", where)[0]) for word in words)
    assert shown(page, "mistaken") == made["cotangents/blocks.0.attention.k"][0, head, row, column]


def test_another_text_and_other_targets(opened: Open) -> None:
    page = opened()
    page.fill("#text", "Numbers, not words")
    page.keyboard.press("Enter")
    until(page, "location.hash.includes('Numbers')")
    settle(page)
    other = trace(model_of(), "Numbers, not words")
    assert number(page.inner_text("#loss")) == pytest.approx(other.loss, rel=1e-5)
    page.click(".tokens button >> nth=2")
    page.click("text=Count this one alone")
    until(page, "document.querySelector('.strip-head').textContent.includes('over 1 target')")
    settle(page)
    targets = np.full_like(other.targets, -100)
    targets[0, 2] = other.targets[0, 2]
    alone = trace(model_of(), other.tokens, targets)
    assert number(page.inner_text("#loss")) == pytest.approx(alone.loss, rel=1e-5)
    again = opened(page.url.partition("#")[2])  # the address is the whole view
    assert again.inner_text("#loss") == page.inner_text("#loss")
    page.go_back()
    until(page, "document.querySelector('.strip-head').textContent.includes('over 17 targets')")


def test_what_cannot_be_shown_is_said(opened: Open) -> None:
    page = opened(refused=True)
    loss = page.inner_text("#loss")
    page.fill("#text", "x" * 40)
    page.click("#run")
    page.wait_for_selector("#alert:not([hidden])")
    assert "40 tokens" in page.inner_text("#alert")
    page.click("[data-name='head.logits']")  # what there was can still be looked at
    settle(page)
    assert page.locator(".heat").count() == 2
    assert page.inner_text("#loss") == loss
    page.fill("#text", TEXT)
    page.click("#run")
    until(page, "document.querySelector('#alert').hidden")


def test_two_changes_in_a_row_are_both_made(opened: Open) -> None:
    page = opened()
    page.evaluate("""() => {  // at once: the second before the answer to the first, which draws the buttons anew
      for (const n of [2, 3]) {
        document.querySelectorAll(".tokens button")[n].click();
        document.querySelector("[data-key=count]").click();
      }
    }""")
    until(page, "document.querySelectorAll('.tokens .ignored').length === 2")
    assert "targets=2%3A-100%2C3%3A-100" in page.url


def test_a_question_that_failed_can_be_asked_again(opened: Open) -> None:
    page = opened(refused=True)
    page.fill("#text", "x" * 40)
    page.click("#run")
    page.wait_for_selector("#alert:not([hidden])")
    with page.expect_response("**/ask/pass"):
        page.click("#run")


def test_the_text_follows_the_way_back(opened: Open) -> None:
    page = opened()
    page.fill("#text", "Numbers, not words")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('.tokens li').length === 17")
    page.go_back()
    until(page, f"document.querySelectorAll('.tokens li').length === {len(TEXT) - 1}")
    assert page.input_value("#text") == TEXT


def test_a_first_text_that_cannot_be_shown_can_be_mended(opened: Open) -> None:
    page = opened("text=x&node=loss", ready=False, refused=True)
    page.wait_for_selector("#alert:not([hidden])")
    assert page.input_value("#text") == "x"
    page.click("#theme")
    page.fill("#text", TEXT)
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-ready]")
    settle(page)
    assert page.inner_text("#detail-title") == "loss"


@pytest.mark.parametrize(
    "view",
    [
        "node=nonsense&head=99&at=9,999999&from=7,7&panel=nonsense&scale=none",
        "panel=constructor&series=toString&constructor=2&layers=999",
        "open=99,-1,x&targets=a:b,3&mutation=nonsense",
    ],
)
def test_nonsense_in_the_address_is_passed_over(opened: Open, view: str) -> None:
    page = opened(view, refused="mutation" in view)
    assert page.locator("[role=tab][aria-selected=true]").count() == 1
    assert page.locator("#alert:visible").count() == ("mutation" in view)
    assert page.locator(".heat").count() >= 2
    assert "constructor" not in page.url
    assert "mutation" not in page.url
    page.evaluate("location.hash = '#node=blocks.7.norm_1.output&open=5'")  # typed into an open page
    settle(page)
    assert page.inner_text("#detail-title") == "blocks.0.attention.weights"


def test_the_keyboard_keeps_its_place(opened: Open) -> None:
    page = opened("node=blocks.0.attention.q")
    for target, key in (("#tab-sheet", "Enter"), ("[data-key=fold-all]", "Enter"), (".tokens button", "ArrowRight")):
        page.focus(target)
        page.keyboard.press(key)
        settle(page)
        assert page.evaluate("document.activeElement !== document.body")
    assert page.evaluate("document.activeElement.dataset.key") == "1"
    page.keyboard.press("Enter")
    page.focus("[data-key=alone]")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.total').textContent.includes('over 1 target')")
    settle(page)
    assert page.evaluate("document.activeElement.dataset.key") == "alone"
    address = page.url
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "panel"
    assert page.url == address


def test_a_line_s_end_can_be_a_target(opened: Open) -> None:
    page = opened(refused=True)
    page.click(".tokens button >> nth=3")
    page.fill("[data-key=target]", "⏎")
    page.click("[data-key=set]")
    until(page, f"location.hash.includes('targets=3%3A{ord(chr(10))}')")
    settle(page)
    assert page.inner_text(".tokens .changed .target") == "⏎"
    page.fill("[data-key=target]", "two")
    page.click("[data-key=set]")
    page.wait_for_selector("#alert:not([hidden])")
    assert "no token" in page.inner_text("#alert")


def test_a_mistake_that_is_undone_while_it_is_asked_for_leaves_nothing(opened: Open) -> None:
    page = opened("panel=mutants")
    page.click(f".catalogue [data-key={MISTAKE}]")
    page.go_back()
    settle(page)
    page.wait_for_timeout(500)
    assert "mutation" not in page.url
    assert page.locator(".node.wrong, .mistake").count() == 0


def test_two_languages_of_colour(opened: Open) -> None:
    light, dark = (opened(color_scheme=scheme) for scheme in ("light", "dark"))
    background = "getComputedStyle(document.body).backgroundColor"
    assert light.evaluate(background) != dark.evaluate(background)
    dark.click("#theme")
    assert light.evaluate(background) == dark.evaluate(background)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("panel", PANELS)
def test_everybody_can_use_it(opened: Open, panel: str, size: dict[str, int], scheme: str, of_a_run: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe; --group browser installs it")
    mutation = f"&mutation={MISTAKE}" if panel in ("tensor", "mutants") else ""
    page = opened(f"panel={panel}&open=0{mutation}", at=of_a_run, size=size, color_scheme=scheme)
    page.click(".tokens button >> nth=1")  # with what can be done to a target
    settle(page)
    violations = axe.Axe().run(page).response["violations"]
    serious = [each for each in violations if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["html"][:90] for node in each["nodes"][:3]]) for each in serious] == []
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0  # nothing hangs over the edge


def test_one_file_without_a_network(opened: Open, traced: Trace, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page(explorer_of(model_of()), path)
    page = opened("node=blocks.1.attention.weights&head=1&at=5,3", at=path.as_uri(), offline=True)
    assert np.float32(shown(page, "value")) == np.float32(traced.activations["blocks.1.attention.weights"][0, 1, 5, 3])
    gradient = traced.cotangents["blocks.1.attention.weights"][0, 1, 5, 3]
    assert np.float32(shown(page, "gradient")) == np.float32(gradient)
    assert "handgrad trace" in page.inner_text("#panel")
    phone = opened(at=path.as_uri(), offline=True, size=PHONE)
    assert phone.locator("#text").bounding_box()["width"] > PHONE["width"] / 2  # what is said beside it leaves it room
    lured = opened(f"mutation={MISTAKE}&text=other&targets=3:5", at=path.as_uri(), offline=True)
    assert lured.locator(".mistake, .changed").count() == 0
    assert lured.inner_text("#loss") == page.inner_text("#loss")
    for panel in PANELS:
        page.click(f"#tab-{panel}")
        settle(page)
        needs = "needs the live page" in page.inner_text("#panel")
        assert needs == (panel in ("nudge", "mutants"))


def test_an_explorer_that_has_ended_is_told(browser: Any) -> None:
    with served(explorer_of(model_of())) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
    page.click("[data-name='head.logits']")
    page.wait_for_selector("#panel .alert")
    assert "does not answer" in page.inner_text("#panel")
    page.close()


def test_the_training_of_a_run(opened: Open, run_folder: Path) -> None:
    explorer = Explorer(shelf_of(run_folder, load(run_folder)))
    with served(explorer) as address:
        page = opened("panel=training", at=address)
        slider = page.locator("#checkpoint")
        assert int(slider.get_attribute("max")) == 5  # 0, 4, 8, 12, the best and the last
        last = page.inner_text("#loss")
        slider.focus()
        page.keyboard.press("Home")
        until(page, f"document.querySelector('#loss').textContent !== '{last}'")
        settle(page)
        assert page.evaluate("document.activeElement.id") == "checkpoint"
        assert "0 updates" in page.inner_text(".slider output")
        assert "12 of 12 updates" in page.inner_text(".training")
        fresh = trace(load(run_folder / "kept" / "0"), explorer.text)
        assert number(page.inner_text("#loss")) == pytest.approx(fresh.loss, rel=1e-5)
        assert "checkpoint=0" in page.url
    kept = run_folder / "kept" / "4"
    with served(Explorer(shelf_of(kept, load(kept)), explorer.text)) as address:
        page = opened("panel=training", at=address)
        assert "4 updates" in page.inner_text(".slider output")
        assert number(page.inner_text("#loss")) == pytest.approx(trace(load(kept), explorer.text).loss, rel=1e-5)
