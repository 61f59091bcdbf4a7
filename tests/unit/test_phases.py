"""Phases are recorded one after the other, for whoever asks and for nobody else."""

import asyncio

from pyro_mcp import phases
from pyro_mcp.models import Phase
from pyro_mcp.phases import PhaseRecorder, ended, recording


def test_phases_have_no_gaps_and_begin_where_they_are_said_to() -> None:
    recorder = PhaseRecorder(1_000)
    recorder.end("first", 3_500)
    recorder.end("second", 3_500)
    recorder.end("third")
    first, second, third = recorder.phases
    assert (first, first.ms) == (Phase("first", 1_000, 3_500), 2.5)
    assert second == Phase("second", 3_500, 3_500)
    assert (third.began_us, third.ended_us <= phases.now_us()) == (3_500, True)


def test_what_another_process_recorded_is_put_in_its_place() -> None:
    recorder = PhaseRecorder(0)
    recorder.end("asked", 10)
    recorder.take_in("way there", Phase("work", 15, 20))
    recorder.take_in("way there", Phase("more", 20, 40))
    recorder.end("way back", 41)
    assert [(phase.name, phase.began_us, phase.ended_us) for phase in recorder.phases] == [
        ("asked", 0, 10),
        ("way there", 10, 15),
        ("work", 15, 20),
        ("more", 20, 40),
        ("way back", 40, 41),
    ]


def test_whoever_wants_to_know_hears_of_each_once() -> None:
    heard = []
    recorder = PhaseRecorder(0, on_end=lambda: heard.append(len(recorder.phases)))
    recorder.end("first", 1)
    recorder.take_in("between", Phase("second", 3, 4))
    assert heard == [1, 2, 3]
    assert [phase.name for phase in recorder.news()] == ["first", "between", "second"]
    assert recorder.news() == ()
    recorder.end("third", 5)
    assert recorder.news() == (Phase("third", 4, 5),)


def test_without_a_recorder_nothing_is_recorded() -> None:
    ended("nothing")
    recorder = PhaseRecorder()
    with recording(recorder), recording(None):
        ended("nothing")
    assert recorder.phases == ()


async def test_requests_at_the_same_time_do_not_see_each_other() -> None:
    async def request(name: str, wanted: bool) -> list[str]:
        recorder = PhaseRecorder()
        with recording(recorder if wanted else None):
            ended(f"{name} 1")
            await asyncio.sleep(0)
            await asyncio.create_task(_work(name))
            return [phase.name for phase in recorder.phases]

    a, b, c = await asyncio.gather(request("a", True), request("b", False), request("c", True))
    assert (a, b, c) == (["a 1", "a 2"], [], ["c 1", "c 2"])


async def _work(name: str) -> None:
    await asyncio.sleep(0)
    ended(f"{name} 2")
