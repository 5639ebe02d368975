"""Several processes at once: no row is lost, nobody meets a lock, a killed writer leaves nothing half-done."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from people import TASK, item
from sqlalchemy import func, select

from tutelage.labels.records import Verdict
from tutelage.labels.service import Labels
from tutelage.store.engine import opened
from tutelage.store.label_tables import Judgement, Presentation

SECONDS = float(os.environ.get("TUTELAGE_TEST_SECONDS", "1.5"))  # of writing; docs/log.md has a minute


def start(work: Callable[[], None]) -> int:
    """A process of its own, forked while no store is open; exit code 1 and a traceback when it fails."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def write(url: str, name: str, answered: Path, seconds: float) -> None:
    """Judge items as a person would, only faster; what the store answered is noted in a file."""
    with opened(url) as store, answered.open("a") as out:
        labels, end, count = Labels(store), time.monotonic() + seconds, 0
        while time.monotonic() < end and (sheet := labels.next_item(TASK, name)) is not None:
            labels.save_draft(sheet.presentation, name, {"reason": "x"}, 1)
            labels.submit(sheet.presentation, name, Verdict(ranking=[[0], [1], [2]]), f"{name}-{count}")
            out.write(f"{name}-{count}\n")
            out.flush()
            count += 1


def read(url: str, stop: Path) -> None:
    """Look on: counts only grow, and a label is whole."""
    with opened(url) as store:
        labels, seen = Labels(store), 0
        while not stop.exists():
            now = labels.progress(TASK).labels
            assert now >= seen, (now, seen)
            seen = now
            time.sleep(0.1)  # as a page that is kept up to date
        assert all(label.ranks for label in labels.labels(TASK))
        assert seen > 0


def prepare(url: str, num_items: int) -> None:
    with opened(url) as store:
        labels = Labels(store)
        labels.make_task(TASK)
        labels.add_items(TASK, [item(number) for number in range(num_items)])


def test_four_writers_and_a_reader_lose_nothing_and_meet_no_lock(store_url: str, tmp_path: Path) -> None:
    prepare(store_url, int(100 * SECONDS))
    files, stop = [tmp_path / f"answered{n}" for n in range(4)], tmp_path / "stop"
    reader = start(lambda: read(store_url, stop))
    writers = [
        start(lambda n=n, file=file: write(store_url, f"writer{n}", file, SECONDS)) for n, file in enumerate(files)
    ]
    assert [os.waitpid(process, 0)[1] for process in writers] == [0] * 4
    stop.touch()
    assert os.waitpid(reader, 0)[1] == 0
    answered = [line for file in files for line in file.read_text().split()]
    with opened(store_url) as store, store.read() as session:
        assert sorted(session.scalars(select(Judgement.client_id))) == sorted(answered)  # all that, and nothing else
        given = Counter(session.scalars(select(Presentation.item_id)))
    assert len(answered) >= 4
    assert max(given.values()) == 1  # nobody was given another's item
    if SECONDS > 10:
        print(f"{store_url.partition(':')[0]}: {len(answered)} labels in {SECONDS:.0f} s")


def test_a_killed_writer_loses_nothing_that_was_answered(store_url: str, tmp_path: Path) -> None:
    prepare(store_url, 300)
    file = tmp_path / "answered"
    for n in range(3):
        file.with_name(f"answered{n}").touch()
        writer = start(partial(write, store_url, f"writer{n}", file.with_name(f"answered{n}"), 60))
        while len(file.with_name(f"answered{n}").read_text().split()) < 2:
            time.sleep(0.003 * (n + 1))
        os.kill(writer, signal.SIGKILL)
        assert os.waitpid(writer, 0)[1] == signal.SIGKILL
    answered = {line for n in range(3) for line in file.with_name(f"answered{n}").read_text().split()}
    with opened(store_url) as store, store.read() as session:  # a new start, as after a crash
        stored = set(session.scalars(select(Judgement.client_id)))
        assert answered <= stored
        assert len(stored) - len(answered) <= 3  # one that was stored and not answered, for each kill
        count = select(func.count()).select_from(Presentation)
        unfinished = session.scalar(count.where(Presentation.state == "open")) or 0
        assert unfinished <= 3
        assert session.scalar(count) == len(stored) + unfinished
