import threading

import pytest

from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot
from sssl.store.media import lease


@pytest.fixture
def store(cloud):
    return Store.open(f"{cloud.make_bucket()}/out", create=True)


@pytest.fixture
def pace(monkeypatch):
    def set_pace(beat_s, patience_s):
        monkeypatch.setattr(lease, "BEAT_S", beat_s)
        monkeypatch.setattr(lease, "PATIENCE_S", patience_s)

    return set_pace


def held(store):
    return store.hold(lambda message: None)


def snapshot(store, generation):
    return Snapshot(
        (store.commit(Manifest("segments", generation, "segment", None, {}, (), {}, {})),)
    )


def test_what_a_holder_publishes_is_read_by_all_and_by_the_next(store):
    with held(store) as first:
        published = snapshot(store, "a")
        first.publish(published)
        assert store.latest() == first.latest() == published
    with held(store) as second:
        assert second.pointer > first.pointer
        assert second.latest() == store.latest() == published


def test_a_second_writer_is_refused_while_the_first_is_alive(store, pace):
    pace(0.1, 20)
    with (
        held(store),
        pytest.raises(
            StoreError, match=r"another sssl command is writing to gs://.*process \d+ on"
        ),
    ):
        held(store).__enter__()


def test_of_many_that_start_at_once_one_gets_the_folder(store, pace):
    pace(0.1, 20)
    start, stop, outcomes = threading.Barrier(8), threading.Event(), []

    def write():
        start.wait()
        try:
            with held(store):
                outcomes.append("held")
                stop.wait(20)
        except StoreError:
            outcomes.append("refused")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    while outcomes.count("refused") < 7 and any(thread.is_alive() for thread in threads):
        stop.wait(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held"] + ["refused"] * 7


def test_who_was_taken_for_dead_publishes_no_more(store, pace):
    pace(600, 0.3)  # a heart that beats once
    with held(store) as dead:
        before, after = snapshot(store, "before"), snapshot(store, "after")
        dead.publish(before)
        with held(store) as successor:
            assert successor.latest() == before
            with pytest.raises(StoreError, match=r"took gs://.* over: this one gave no sign"):
                dead.publish(snapshot(store, "late"))
            assert store.latest() == before
            successor.publish(after)
    assert store.latest() == after


def test_a_released_folder_is_taken_without_waiting(store, pace):
    with held(store):
        pass
    pace(600, 600)
    with held(store) as next_one:
        assert next_one.pointer == "latest/00000002.json"


def test_old_epochs_are_deleted(store):
    for _ in range(4):
        with held(store):
            pass
    assert [name for name in store.names("latest") if name.endswith("json")] == [
        "00000003.json",
        "00000004.json",
    ]


def test_a_request_sent_again_meets_what_its_first_try_did(store, cloud):
    with cloud.failing(0.5, seed=11, kinds=["lost-answer"]) as injected:
        assert store.medium.create_if_absent("latest/00000001.json", b"mine")
        store.delete("latest/00000001.json")
    assert injected == {"lost-answer": 2}
    assert not store.exists("latest/00000001.json")


def test_of_two_commits_the_first_stands(store):
    (first,) = snapshot(store, "g").manifests
    path = f"{first.ref}/_manifest.json"
    assert not store.medium.create_if_absent(path, b"{}")
    assert store.manifest("segments", "g") == first


def test_a_bucket_that_is_not_there_is_named(cloud):
    with pytest.raises(StoreError, match="cannot use gs://no-such-bucket/out"):
        Store.open("gs://no-such-bucket/out", create=True)
