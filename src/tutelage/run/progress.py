"""What a run shows: live bars on a terminal, a plain line now and then in a log, nothing in tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from tutelage.run.stage import ProgressBar
from tutelage.run.visible import visible

_STYLES = {"✓": "green", "▶": "bold cyan", "·": "dim", "!": "yellow", "✗": "bold red"}


class _Silent:
    def advance(self, amount: float = 1, **shown: str | float) -> None:
        pass


@contextmanager
def no_progress(label: str, total: float | None) -> Iterator[ProgressBar]:
    """A ProgressFactory that shows nothing."""
    yield _Silent()


def format_seconds(seconds: float) -> str:
    """`8.2 s`, `3:05`, `2:03:05`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def format_value(value: str | float) -> str:
    """Four significant digits, or the text as it is."""
    return value if isinstance(value, str) else f"{value:.4g}"


def _format_shown(shown: dict[str, str | float]) -> str:
    return "  ".join(f"{name} {format_value(value)}" for name, value in shown.items())


def _format_rate(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


class Terminal:
    """Prints sentences and bars to one console; several bars share one live display."""

    def __init__(self, console: Console | None = None, *, line_every: float = 10.0) -> None:
        self.console = console or Console()
        self.line_every = line_every  # seconds between lines where there is no terminal
        self._live: Progress | None = None
        self._open_bars = 0

    def say(self, sentence: str) -> None:
        """Print a sentence, coloured by its first sign; names and keys in it may come from anybody's data."""
        self.console.print(Text(visible(sentence), style=_STYLES.get(sentence.strip()[:1], "")), soft_wrap=True)

    def progress(self, label: str, total: float | None) -> AbstractContextManager[ProgressBar]:
        """A ProgressFactory."""
        return self._bar(label, total) if self.console.is_terminal else self._lines(label, total)

    @contextmanager
    def _bar(self, label: str, total: float | None) -> Iterator[ProgressBar]:
        if self._live is None:
            self._live = _live_display(self.console)
            self._live.start()
        self._open_bars += 1
        task = self._live.add_task(label, total=total, shown="")
        try:
            yield _Bar(self._live, task)
        finally:
            self._open_bars -= 1
            if self._open_bars == 0:
                self._live.stop()
                self._live = None

    @contextmanager
    def _lines(self, label: str, total: float | None) -> Iterator[ProgressBar]:
        lines = _Lines(self, label, total)
        try:
            yield lines
        finally:
            lines.show()


def _live_display(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=30),
        _Amount(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[shown]}", style="cyan"),
        console=console,
        refresh_per_second=4,  # drawing must not take the processor from training
    )


class _Amount(ProgressColumn):
    """`120/1000  35/s`."""

    def render(self, task: Task) -> Text:
        of = f"/{task.total:,.0f}" if task.total is not None else ""
        rate = _format_rate(task.finished_speed or task.speed or 0.0)
        return Text(f"{task.completed:,.0f}{of}  {rate}", style="dim")


class _Bar:
    def __init__(self, display: Progress, task: TaskID) -> None:
        self.display = display
        self.task = task

    def advance(self, amount: float = 1, **shown: str | float) -> None:
        if shown:
            self.display.update(self.task, advance=amount, shown=_format_shown(shown))
        else:
            self.display.update(self.task, advance=amount)


class _Lines:
    """At most one line every `line_every` seconds, and one at the end.

    The rate is that after the first advance, as on a terminal: the first may be what an earlier attempt did.
    """

    def __init__(self, terminal: Terminal, label: str, total: float | None) -> None:
        self.terminal = terminal
        self.label = label
        self.total = total
        self.done = 0.0
        self.shown: dict[str, str | float] = {}
        self.began = self.printed = time.monotonic()
        self.first: tuple[float, float] | None = None  # when, and how much was done by then

    def advance(self, amount: float = 1, **shown: str | float) -> None:
        self.done += amount
        self.shown.update(shown)
        now = time.monotonic()
        self.first = self.first or (now, self.done)
        if now - self.printed >= self.terminal.line_every:
            self.printed = now
            self.show()

    def show(self) -> None:
        parts = [f"{self.done:,.0f}" + (f"/{self.total:,.0f}" if self.total else "")]
        rate = self._rate()
        if rate:
            parts.append(_format_rate(rate))
        if not self.total or not 0 < self.done < self.total:
            parts.append(format_seconds(time.monotonic() - self.began))
        elif rate:
            parts.append(f"{format_seconds((self.total - self.done) / rate)} left")
        if self.shown:
            parts.append(_format_shown(self.shown))
        self.terminal.say(f"  · {self.label}  " + "  ".join(parts))

    def _rate(self) -> float:
        """0 where it cannot be known yet."""
        if self.first is None or self.done == self.first[1]:
            return 0.0
        return (self.done - self.first[1]) / max(time.monotonic() - self.first[0], 1e-9)
