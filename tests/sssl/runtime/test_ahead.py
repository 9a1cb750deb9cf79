from concurrent.futures import Future

from sssl.runtime.ahead import results_in_order


def test_results_come_in_order_while_as_many_items_as_asked_for_are_submitted_ahead():
    submitted = []

    def submit(item):
        submitted.append(item)
        done = Future()
        done.set_result(10 * item)
        return done

    results = results_in_order(submit, range(5), ahead=2)
    seen = [(result, len(submitted)) for result in results]
    assert seen == [(0, 3), (10, 4), (20, 5), (30, 5), (40, 5)]
