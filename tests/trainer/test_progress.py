"""What a run says."""

from trainer import progress


def test_plain_lines(capsys):
    readings = iter([progress.Reading(0, 9.0), *[progress.Reading(10, 1.5)] * 100])
    with progress.Progress(total=40, images_per_step=2, read=lambda: next(readings)) as show:
        show.say("hello [bold]")
        show.show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "hello [bold]"
    assert lines[1].startswith("step 10/40 | loss 1.5 | ")


def test_quiet(capsys):
    with progress.Progress(total=4, images_per_step=1, read=lambda: progress.Reading(0, 0.0), quiet=True) as show:
        show.say("hello")
    assert capsys.readouterr().out == ""


def test_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    step = progress.Reading(20, 0.5)
    with progress.Progress(total=40, images_per_step=2, read=lambda: step) as show:
        show.say("above the bar")
        show.show()
    out = capsys.readouterr().out
    assert "above the bar" in out and "step 20/40" in out and "loss 0.5" in out
