"""The comparison of machines says when a promise is broken."""

import machines


def row(seed=0, kernels="native", labels=("Q1",) * 100, flagged=90, precision=0.95, recall=0.85):
    return {
        "seed": seed,
        "kernels": kernels,
        "threads": 1,
        "flagged": flagged,
        "wrong": 100,
        "precision": precision,
        "recall": recall,
        "auc": 0.98,
        "outcome": "the model trained without them was taken, because better",
        "abstained": 3,
        "labels": {f"track{number:03d}": label for number, label in enumerate(labels)},
    }


def test_machines_that_say_the_same_break_no_promise():
    assert not list(machines.failures([row(), row(kernels="avx2"), row(seed=1)]))


def test_two_machines_may_differ_in_three_of_a_hundred_tracks():
    three, four = (row(kernels="avx2", labels=("Q2",) * n + ("Q1",) * (100 - n)) for n in (3, 4))
    assert not list(machines.failures([row(), three]))
    assert list(machines.failures([row(), four])) == [
        "seed 0: two machines label only 96.0% of the tracks alike"
    ]


def test_agreement_is_that_of_the_two_most_different_machines():
    one, two, three = (row(labels=("Q2",) * n + ("Q1",) * (100 - n)) for n in (0, 1, 2))
    assert machines.agreement([one, two, three]) == 0.98


def test_labels_of_different_seeds_are_not_compared():
    assert not list(machines.failures([row(), row(seed=1, labels=("Q2",) * 100)]))


def test_machine_that_finds_nothing_breaks_the_promise():
    (said,) = machines.failures([row(flagged=0, precision=None, recall=0.0)])
    assert said == "seed 0, native, 1 threads: nothing looks wrong"


def test_low_recall_breaks_the_promise():
    (said,) = machines.failures([row(recall=0.7)])
    assert said == "seed 0, native, 1 threads: precision 0.950, recall 0.700"


def test_table_has_a_row_a_machine_and_the_agreement_once_a_seed():
    *_, first, second = machines.table([row(), row(kernels="avx2")]).splitlines()
    assert [cell.strip() for cell in first.split("|")][4:11] == [
        "90 of 100",
        "0.950",
        "0.850",
        "0.980",
        "3 of 100",
        "",
        "the model trained without them was taken",
    ]
    assert second.split("|")[9].strip() == "1.000"
