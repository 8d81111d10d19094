import json
import logging
from collections.abc import Iterator

import pytest

from worker import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_json_line_names_what_it_is_about(capsys: pytest.CaptureFixture):
    logs.set_up("json")
    with logs.about(submission_id=3), logs.about(analysis_id=7):
        logging.getLogger("worker").warning("odd %s", "thing")
    logging.getLogger("worker").info("later")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["message"], first["level"], first["submission_id"], first["analysis_id"]) == (
        "odd thing",
        "WARNING",
        3,
        7,
    )
    assert "analysis_id" not in second


def test_a_text_line_does_too(capsys: pytest.CaptureFixture):
    logs.set_up("text")
    with logs.about(analysis_id=7):
        logging.getLogger("worker").info("done")
    assert capsys.readouterr().err.endswith("INFO [analysis 7] done\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_holds_a_urls_secrets(form: str, capsys: pytest.CaptureFixture):
    logs.set_up(form)
    url = "https://anna:hush@cams.example/gate.mp4?sig=f00d"
    try:
        raise ValueError(url)
    except ValueError as error:
        logging.getLogger("worker").error("cannot read %s", error, exc_info=error)
    printed = capsys.readouterr().err
    assert printed.count("https://anna:***@cams.example/gate.mp4?sig=***") == 2
    assert "hush" not in printed


@pytest.mark.parametrize("name", ["alembic.runtime.migration", "torch._subclasses.fake_tensor"])
def test_what_libraries_tell_of_themselves_is_left_out(name: str, caplog: pytest.LogCaptureFixture):
    told, library = logging.getLogger(name), logging.getLogger(name.partition(".")[0])
    told.addHandler(caplog.handler)  # torch, once imported, sends its lines to a handler of its own
    level = library.level
    library.setLevel(logging.NOTSET)
    try:
        logs.set_up("text")
        told.info("caches")
        told.warning("broken")
    finally:
        told.removeHandler(caplog.handler)
        library.setLevel(level)
    assert caplog.messages == ["broken"]
