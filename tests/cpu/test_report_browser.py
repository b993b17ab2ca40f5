"""A report in a browser: it fits narrow windows, and can be printed."""

import re
import shutil
import subprocess

import pytest
from helpers.report_pages import page_of

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [360, 1200])
def test_no_sideways_scrolling(logged_search, tmp_path, width):
    """Wide tables and figures scroll within the page, not with it."""
    _, html = page_of(tmp_path, logged_search / "checkpoints")
    measure = (
        "<script>document.title=[document.documentElement.scrollWidth,innerWidth].join()</script>"
    )
    framed = tmp_path / "framed.html"
    framed.write_text(html.replace("</body>", f"{measure}</body>"))
    # Windows of less than 500 pixels there are not: the page is within a frame of that width.
    outer = tmp_path / "outer.html"
    outer.write_text(
        f'<iframe src="framed.html" width="{width}" height="800" style="border:0"></iframe>'
        "<script>onload=()=>document.title=frames[0].document.title</script>"
    )
    dumped = browse("--dump-dom", "--allow-file-access-from-files", outer.as_uri())
    needed, given = map(int, re.search(r"<title>(\d+),(\d+)</title>", dumped).groups())
    assert given == width and needed <= given


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_prints(logged_search, tmp_path):
    page_of(tmp_path, logged_search / "checkpoints")
    output = tmp_path / "report.pdf"
    browse(f"--print-to-pdf={output}", (tmp_path / "report.html").as_uri())
    assert output.read_bytes().startswith(b"%PDF")


def browse(*arguments: str) -> str:
    flags = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage".split()
    done = subprocess.run(
        [BROWSER, *flags, *arguments], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout
