"""A small set whose figures are worked out by hand."""

import json

import pytest
from rich.console import Console

from tests.vm.evaluation.made import prediction, sample
from vm.evaluation.bootstrap import Estimate
from vm.evaluation.metrics import CGBENCH_FIGURES
from vm.evaluation.report import ALL, duration_bucket, make_report
from vm.evaluation.samples import Prediction, Sample
from vm.evaluation.tables import make_tables, print_report, to_markdown

CHOICE = {"options": ("red", "blue"), "answer": "blue"}
SAMPLES = [
    sample("a.mp4", "1", spans=[(0, 10)], mode="ground", groups=("enter",)),
    sample("a.mp4", "2", spans=[(10, 20)], mode="ground-answer", groups=("leave",), **CHOICE),
    sample("b.mp4", "3", mode="answer", groups=("place",), **CHOICE),
    sample("b.mp4", "4", spans=[(0, 4)], mode="ground-answer", groups=("enter",), **CHOICE),
    sample("c.mp4", "5", spans=[(0, 10)], mode="ground", groups=("held-out",), apart=True),
]


def planned(of: Sample, route: str | None, *spans: tuple[float, float], **found: object) -> Prediction:
    return prediction(of, *spans, planned=True, route=route, fingerprint="f00", **found)


CHAIN = [
    planned(SAMPLES[0], "ground", (0, 8), duration=20.0),  # IoU 0.8, IoP 1
    planned(SAMPLES[1], "ground-answer", (15, 25), duration=20.0, reply="B"),  # IoU 1/3, IoP 0.5, right
    planned(SAMPLES[2], "ground-answer", (0, 5), duration=100.0, reply="A"),  # wrong
    prediction(SAMPLES[3], duration=None, error="cut off", planned=True),  # failed
    planned(SAMPLES[4], "ground", (0, 10), duration=20.0),  # IoU 1
]
WHOLE = [
    prediction(SAMPLES[0], (0, 20), system="whole", duration=20.0),  # IoU 0.5, IoP 0.5
    prediction(SAMPLES[1], (0, 20), system="whole", duration=20.0, reply="A"),  # IoU 0.5, wrong
    prediction(SAMPLES[2], (0, 100), system="whole", duration=100.0, reply="B"),  # right
    prediction(SAMPLES[3], (0, 100), system="whole", duration=100.0, reply="B"),  # IoU 0.04, right
    prediction(SAMPLES[4], (0, 20), system="whole", duration=20.0),
]
REPORT = make_report(SAMPLES, {"chain": CHAIN, "whole": WHOLE})


def values(group: str, system: str, *names: str) -> list[float]:
    return [REPORT.figures[group][system][name].value for name in names]


def test_figures_over_all_are_the_means_worked_out_by_hand() -> None:
    assert values(ALL, "chain", "Route") == [2 / 4]
    assert values(ALL, "chain", "R1@0.3", "R1@0.5", "R1@0.7") == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert values(ALL, "chain", "mIoU", "mIoP") == pytest.approx([(0.8 + 1 / 3) / 3, 1.5 / 3])
    assert values(ALL, "chain", "Acc", "Acc (IoP ≥ 0.5)") == pytest.approx([1 / 3, 1 / 2])
    assert values(ALL, "chain", "Localised", "Replied") == pytest.approx([2 / 3, 2 / 3])
    assert values(ALL, "whole", "mIoU", "Acc") == pytest.approx([1.04 / 3, 2 / 3])
    assert "Route" not in REPORT.figures[ALL]["whole"]


def test_every_figure_tells_how_many_samples_it_is_over() -> None:
    counts = {name: found.count for name, found in REPORT.figures[ALL]["chain"].items()}
    assert {name: counts[name] for name in ("Route", "mIoU", "Acc", "Acc (IoP ≥ 0.5)")} == {
        "Route": 4,
        "mIoU": 3,
        "Acc": 3,
        "Acc (IoP ≥ 0.5)": 2,
    }


def test_intervals_hold_the_mean_and_are_drawn_by_video() -> None:
    for group in REPORT.figures.values():
        for found in group.values():
            assert all(one.low - 1e-9 <= one.value <= one.high + 1e-9 for one in found.values())
    route = REPORT.figures[ALL]["chain"]["Route"]  # a is right twice, b wrong twice
    assert (route.low, route.high) == (0, 1)
    assert REPORT.figures["place"]["chain"]["Acc"] == Estimate(1, 0, 0, 0)


def test_groups_are_the_samples_own_then_modes_then_lengths() -> None:
    assert list(REPORT.figures) == [
        ALL,
        *("enter", "held-out", "leave", "place"),
        *("ground-answer", "ground", "answer"),
        *("15 to 30 s", "60 to 120 s"),
    ]
    assert values("enter", "chain", "mIoU") == pytest.approx([0.4])
    assert values("60 to 120 s", "chain", "Acc") == [0]
    assert values("answer", "whole", "Acc") == [1]


def test_what_stands_apart_is_in_its_group_and_nowhere_else() -> None:
    assert REPORT.apart == ("held-out",)
    assert values("held-out", "chain", "mIoU") == [1]
    assert REPORT.figures["ground"]["chain"]["mIoU"].count == 1


def test_a_group_that_only_repeats_all_is_left_out() -> None:
    two = [sample("a.mp4", question, spans=[(0, 1)], mode="ground") for question in "12"]
    report = make_report(two, {"chain": [prediction(one, (0, 1)) for one in two]})
    assert list(report.figures) == [ALL]


def test_differences_are_taken_sample_by_sample() -> None:
    found = REPORT.differences["whole"]
    assert found["mIoU"].value == pytest.approx((-0.3 + (0.5 - 1 / 3) + 0.04) / 3)
    assert found["Acc"].value == pytest.approx((-1 + 1 + 1) / 3)
    assert found["mIoU"].count == found["Acc"].count == 3
    assert "Route" not in found


def test_a_system_does_not_differ_from_itself() -> None:
    found = make_report(SAMPLES, {"chain": CHAIN, "again": CHAIN}).differences["again"]
    assert {(one.value, one.low, one.high) for one in found.values()} == {(0, 0, 0)}


def test_failures_samples_videos_and_weights_are_told() -> None:
    assert REPORT.failures == {"chain": 1, "whole": 0}
    assert (REPORT.samples, REPORT.videos) == (5, 3)
    assert REPORT.systems == {"chain": "f00", "whole": ""}


def test_a_report_is_json() -> None:
    found = json.loads(json.dumps(REPORT.to_dict(), allow_nan=False))
    assert found["figures"]["all"]["chain"]["mIoU"]["count"] == 3
    assert found["differences"]["whole"]["Acc"]["value"] == pytest.approx(1 / 3)


def test_other_figures_may_be_reported() -> None:
    report = make_report(SAMPLES, {"chain": CHAIN}, CGBENCH_FIGURES)
    assert report.figures[ALL]["chain"]["rec.@IoU"].value == pytest.approx((1 + 0.6 + 0) / 3)
    assert report.differences == {}


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        *((0, "0 to 15 s"), (14.99, "0 to 15 s"), (15, "15 to 30 s"), (299, "120 to 300 s")),
        *((1800, "1800 s and more"), (1e5, "1800 s and more"), (None, "unknown length")),
    ],
)
def test_a_length_falls_in_a_bucket(seconds: float | None, bucket: str) -> None:
    assert duration_bucket(seconds) == bucket


def test_markdown_has_a_row_per_figure_with_count_and_interval() -> None:
    lines = to_markdown(REPORT, make_tables(REPORT)).replace("\N{EN DASH}", "-").splitlines()
    assert lines[0] == "**all**"
    assert lines[2:4] == ["| figure | n | chain | whole |", "| :--- | ---: | ---: | ---: |"]
    assert lines[4] == "| Route | 4 | 50.0 (0.0-100.0) | - |"
    assert "**held-out**" in lines
    assert "| R1@0.7 | 1 | 100.0 (100.0-100.0) | 0.0 (0.0-0.0) |" in lines
    assert "| place | 0.0 (0.0-0.0, n = 1) | - | - | - | 0.0 (0.0-0.0, n = 1) | - |" in lines
    assert "**difference to chain**" in lines
    assert lines[-1] == "chain: failed, and counted as wrong: 1."
    tables = [line for line in lines if line.startswith("|")]
    assert not any("held-out" in line for line in tables)


def test_the_terminal_shows_the_same_numbers_and_obeys_no_name() -> None:
    hostile = "[red]\x1b[31m|<b>"
    report = make_report(SAMPLES, {"chain": CHAIN, hostile: WHOLE})
    console = Console(width=100, record=True, force_terminal=False)
    with console.capture() as captured:
        print_report(report, make_tables(report), console)
    shown = captured.get()
    assert "37.8" in shown  # mIoU
    assert "[red]" in shown
    assert "\x1b[31m" not in shown
    assert "\\|&lt;b>" in to_markdown(report, make_tables(report))
