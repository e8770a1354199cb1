"""What the press refuses on a chapter's page: what kernels leave there, questions for captions, shares beyond 1."""

import pytest

from press.checks import has_finding, problems

OUTPUT = "<div class='cell'>{}</div>"
FIGURE = (
    '<figure id="fig-a"><img alt="A line that rises slowly" src="a.svg"><figcaption><p><span class="caption-number">'
    'Figure 1 </span><span class="caption-text">{}</span><a class="headerlink" href="#fig-a">#</a></p>'
    "</figcaption></figure>"
)


def found(folder, body, rows=""):
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "notebooks" / "01_a.html").write_text(f"<html><body>{body}</body></html>")
    (folder / "downloads").mkdir()
    (folder / "downloads" / "01_a.csv").write_text(f"name,value,low,high,unit\n{rows}")
    return problems(folder)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (
            '<div class="output stderr highlight"><pre>UserWarning</pre></div>',
            "warnings of a kernel",
        ),
        (
            '<div class="output text_plain highlight"><pre>{1: 2}</pre></div>',
            "a bare value ({1: 2})",
        ),
        ('<div class="output traceback"><pre>KeyError</pre></div>', "an error"),
        ("<pre>/home/somebody/book/lib/a.py</pre>", "a path of a machine"),
        ("<pre>lib/python3.11/site-packages/sklearn/a.py</pre>", "a path of a machine"),
        ("<pre>&lt;Axes object at 0x7f00aa&gt;</pre>", "the address of an object"),
        (FIGURE.format("What each part does, by its size. Bars: 95 %."), "asks and does not say"),
        (FIGURE.format("Whether it matters: accuracy by arm."), "asks and does not say"),
    ],
)
def test_each_fault_of_a_page_is_named(tmp_path, body, fault):
    (sentence,) = found(tmp_path, body)
    assert sentence.startswith("notebooks/01_a.html: ")
    assert fault in sentence


def test_a_page_in_order_passes(tmp_path):
    body = '<div class="output stream highlight"><pre>owl: times 3</pre></div><script>"/home/a/b at 0x12"</script>'
    rows = "a,0.5,0.4,0.6,share of pairs\nb,0.1,-0.2,0.4,change of the share\nc,-1,-2,3,nats\nd,0.5,,,AUC\n"
    assert found(tmp_path, body + FIGURE.format("More noise teaches more."), rows) == []


@pytest.mark.parametrize("ends", ["-0.01,0.4", "0.4,1.01"])
def test_an_interval_of_a_share_beyond_its_range_is_a_fault(tmp_path, ends):
    (sentence,) = found(tmp_path, "", f"a,0.3,{ends},share of pairs\n")
    assert "01_a.csv: the interval" in sentence


@pytest.mark.parametrize(
    ("caption", "finds"),
    [
        ("More logits teach more. Bars: 95 %.", True),
        ("How far shared heads go alone depends on the recipe; both go further.", True),
        ("Whether the animal rises stays open. Thirteen ways.", True),
        ("Whether a mood passes: effect by mood.", False),
        ("How far heads go, beside everything. It depends on the recipe.", False),
    ],
)
def test_a_question_alone_is_no_finding(caption, finds):
    assert has_finding(caption) == finds
