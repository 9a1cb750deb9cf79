"""What engines may do to a job: split, repeat, reorder and kill."""

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

from sssl.store.folder import Store


class Dies(Exception):
    """In the place of a machine that is gone between two writes."""


def disturbed(refs, run_bundle, monkeypatch, seed=20, deaths=5):
    """Do parts in random bundles, each of them twice and both at once, on workers that die amid
    writes and begin anew; return the receipts, repeated and in any order."""
    chance = random.Random(seed)
    refs = list(refs)
    chance.shuffle(refs)
    cuts = sorted(chance.sample(range(1, len(refs)), min(4, len(refs) - 1)))
    bundles = [refs[first:last] for first, last in itertools.pairwise([0, *cuts, len(refs)])]
    written = itertools.count()
    fatal = set(chance.sample(range(1, len(refs)), min(deaths, len(refs) - 1)))
    write_part = Store.write_part

    def write_or_die(self, *args):
        if next(written) in fatal:
            raise Dies
        return write_part(self, *args)

    def attempt(bundle):
        for _ in range(deaths + 1):
            try:
                return run_bundle(bundle)
            except Dies:
                continue  # all of it once more, also what was done already
        raise AssertionError("it never came to an end")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_part", write_or_die)
        with ThreadPoolExecutor(2) as machines:
            twice = [bundle for bundle in bundles for _ in range(2)]
            made = list(machines.map(attempt, twice))
    assert next(written) > max(fatal)
    receipts = [receipt for bundle in made for receipt in bundle] * 2
    chance.shuffle(receipts)
    return receipts


def combined(found, add, seed=20):
    """Add up what parts tell in a random tree, as engines combine it."""
    chance = random.Random(seed)
    left = list(found)
    chance.shuffle(left)
    while len(left) > 1:
        taken = [left.pop(chance.randrange(len(left))) for _ in range(min(3, len(left)))]
        left.append(add(taken))
    return add(left)


def digests(manifests):
    return {
        m.table: (m.digest, {part: file.sha256 for part, file in m.files.items()})
        for m in manifests
    }
