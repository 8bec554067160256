"""The order of the cases."""

from collections import Counter

import numpy as np
import torch
from problems import regression_data

from medaudit.training.sampling import batches, places


def order(cases=10, batch=4, seed=0, steps=range(50), rank=0, ranks=1):
    return list(places(cases, batch, seed, steps, rank, ranks))


def test_every_case_comes_equally_often():
    seen = Counter(index for batch in order() for index, _ in batch)
    assert seen == dict.fromkeys(range(10), 20)


def test_each_pass_is_another_permutation():
    indices = [index for batch in order() for index, _ in batch]
    passes = [tuple(indices[i : i + 10]) for i in range(0, 200, 10)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len(set(passes)) == 20


def test_the_ranks_share_each_batch_of_one_process():
    whole = order()
    shares = [order(rank=rank, ranks=2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole


def test_starting_late_is_skipping():
    assert order(steps=range(17, 50)) == order()[17:]


def test_another_seed_is_another_order():
    assert order(seed=1) != order(seed=0)


def test_a_case_is_augmented_by_its_place_alone():
    data = regression_data(jitter=0.5)
    whole = list(batches(data, 8, 0, range(6)))
    late = list(batches(data, 8, 0, range(3, 6), rank=1, ranks=2))
    for one, share in zip(whole[3:], late, strict=True):
        assert torch.equal(one["x"][4:], share["x"])
        assert one["case_id"][4:] == share["case_id"]
    # The same case in another pass is another picture.
    first = {name: x for batch in whole[:3] for name, x in zip(batch["case_id"], batch["x"], strict=True)}
    second = {name: x for batch in whole[3:] for name, x in zip(batch["case_id"], batch["x"], strict=True)}
    assert first.keys() == second.keys()
    assert not any(np.array_equal(first[name], second[name]) for name in first)
