# SPDX-License-Identifier: BSD-3-Clause
"""Bad rotations: the right exception, and a sentence with the value and what is accepted."""

import dataclasses
import re
from typing import Callable

import pytest
import torch

import longattn
from longattn import LogN, RotaryEmbedding
from longattn.rope import DynamicNTK
from longattn.rotary import PositionMap, rotate

ROPE = RotaryEmbedding(8)
Q, K = torch.randn(2, 6, 4, 8), torch.randn(2, 6, 2, 8)
BY_LENGTH = RotaryEmbedding(8, scaling=DynamicNTK(2.0), max_position_embeddings=16)
IDENTITY = (PositionMap(), PositionMap())


def call(q=Q, k=K, rope=ROPE, positions=None, **arguments):
    return longattn.apply_rotary(q, k, rope, positions, **arguments)


def in_bands(maps, **arguments):
    return rotate(Q, K, ROPE, None, maps, **arguments)


def meta_positions(rope, **arguments):
    """Positions that nobody can read without waiting: such as those on a GPU."""
    from longattn.rotary import positions

    q, k = Q.to("meta"), K.to("meta")
    found = positions.resolve(torch.arange(6, device="meta"), q, k)
    return positions.extent(found, q, k, None, "a scaling that depends on it")


def leaf():
    return Q.clone().requires_grad_()


@dataclasses.dataclass(frozen=True)
class Bad:
    name: str
    make: Callable
    exception: type
    says: tuple  # regular expressions that the message must contain

    def __str__(self):
        return self.name


BAD = [
    # tensors
    Bad("no tensor", lambda: call([1.0]), TypeError, ("q must be a torch.Tensor", "list")),
    Bad("two dimensions", lambda: call(Q[0, 0], K[0, 0]), ValueError, ("batch, length", "shape")),
    Bad("integers", lambda: call(Q.int(), K.int()), TypeError, ("int32", "float32")),
    Bad("mixed dtypes", lambda: call(Q, K.double()), TypeError, ("float32", "float64")),
    Bad("mixed devices", lambda: call(Q, K.to("meta")), ValueError, ("cpu", "meta")),
    Bad("no engine", lambda: call(Q.to("meta"), K.to("meta")), NotImplementedError, ("meta",)),
    Bad("batches", lambda: call(Q[:1], K), ValueError, (r"\(1, 6, 4, 8\)", r"\(2, 6, 2, 8\)")),
    Bad("packed keys alone", lambda: call(Q, K[0]), ValueError, ("packed", r"\(6, 2, 8\)")),
    Bad("head_dims", lambda: call(Q, K[..., :4]), ValueError, ("head_dim", "8 and 4")),
    Bad("too wide", lambda: call(torch.ones(1, 1, 1, 300), torch.ones(1, 1, 1, 300),
                                 RotaryEmbedding(300)), ValueError, ("256", "300")),
    Bad("transposed", lambda: call(Q.transpose(1, 3), K.transpose(1, 3)), ValueError,
        ("head_dim|contiguous",)),
    Bad("strided", lambda: call(torch.ones(2, 6, 4, 16)[..., ::2], K), ValueError,
        ("q must be contiguous|dimension of q must be contiguous", "stride 2", "contiguous")),
    Bad("unknown backend", lambda: call(backend="tpu"), ValueError, ("tpu", "cpu")),
    # rope
    Bad("no rope", lambda: call(rope=None), TypeError, ("RotaryEmbedding", "NoneType", "from_hf")),
    Bad("another head_dim", lambda: call(rope=RotaryEmbedding(16)), ValueError, ("16", "8")),
    # positions
    Bad("positions of int32", lambda: call(positions=torch.arange(6, dtype=torch.int32)),
        TypeError, ("int32", "int64")),
    Bad("positions of float32", lambda: call(positions=torch.arange(6.0)), TypeError,
        ("float32", "float64")),
    Bad("a list of positions", lambda: call(positions=[0, 1, 2]), ValueError, ("pair", "3")),
    Bad("a pair of numbers", lambda: call(positions=(0, 1)), TypeError, ("q_positions", "int")),
    Bad("too few positions", lambda: call(positions=torch.arange(5)), ValueError,
        (r"\[6\]", r"\[5\]")),
    Bad("positions of another batch", lambda: call(positions=torch.zeros(3, 6, dtype=torch.int64)),
        ValueError, (r"\[2, 6\]", r"\[1, 6\]", r"\[3, 6\]")),
    Bad("one tensor for two lengths", lambda: call(Q[:, :3], K, positions=torch.arange(6)),
        ValueError, (r"\[3\]", r"\[6\]", "pair")),
    Bad("packed rows", lambda: call(Q[0], K[0], positions=torch.zeros(1, 6, dtype=torch.int64)),
        ValueError, (r"\[6\]", r"\[1, 6\]")),
    Bad("packed queries of fewer rows, counted", lambda: call(Q[0, :3], K[0]), ValueError,
        ("3 and 6 rows", "q_positions", "each has as many")),
    Bad("packed and LogN, counted", lambda: call(Q[0], K[0], q_scale=LogN(4)), ValueError,
        ("LogN", "need positions", "each sequence")),
    Bad("packed and a table by length, counted", lambda: call(Q[0], K[0], BY_LENGTH), ValueError,
        ("depends on the length", "need positions")),
    Bad("positions without end", lambda: call(rope=BY_LENGTH, positions=torch.full(
        (6,), float("nan"), dtype=torch.float64)), ValueError, ("finite", "nan")),
    Bad("positions elsewhere", lambda: call(positions=torch.arange(6, device="meta")), ValueError,
        ("meta", "cpu")),
    Bad("positions that cannot be read", lambda: meta_positions(None), ValueError,
        ("seq_len=", "wait", "meta")),
    Bad("seq_len of 0", lambda: call(seq_len=0), ValueError, ("seq_len", "at least 1", "0")),
    Bad("seq_len of float", lambda: call(seq_len=2.5), TypeError, ("seq_len", "integer", "2.5")),
    # biases
    Bad("bias of other heads", lambda: call(q_bias=torch.zeros(2, 8)), ValueError,
        ("q_bias", r"\[4, 8\]", r"\[2, 8\]")),
    Bad("bias of integers", lambda: call(k_bias=torch.zeros(2, 8, dtype=torch.int64)), TypeError,
        ("k_bias", "int64")),
    Bad("bias elsewhere", lambda: call(k_bias=torch.zeros(2, 8, device="meta")), ValueError,
        ("k_bias", "meta")),
    Bad("bias as a number", lambda: call(q_bias=0.5), TypeError, ("q_bias", "float")),
    # norm and scale
    Bad("unknown norm", lambda: call(key_norm="keys"), ValueError, ("keys", "'both'", "'query'")),
    Bad("norm of None", lambda: call(key_norm=None), ValueError, ("None", "'both'")),
    Bad("norm of 1", lambda: call(key_norm=1), ValueError, ("1", "'both'")),
    Bad("scale as text", lambda: call(q_scale="logn"), TypeError, ("logn", "LogN")),
    Bad("scale True", lambda: call(q_scale=True), TypeError, ("True", "LogN")),
    Bad("scale without end", lambda: call(q_scale=float("nan")), ValueError, ("nan", "finite")),
    Bad("logn of 1", lambda: LogN(1), ValueError, ("training_length", "2", "1")),
    Bad("logn of 2.5", lambda: LogN(2.5), TypeError, ("training_length", "2.5")),
    Bad("logn of yes", lambda: LogN(4, post_hoc="yes"), TypeError, ("post_hoc", "yes")),
    # in place
    Bad("inplace of 1", lambda: call(inplace=1), TypeError, ("inplace", "True or False", "1")),
    Bad("a leaf in place", lambda: call(leaf(), inplace=True), ValueError,
        ("change q", "leaf", "inplace=False")),
    Bad("a norm in place", lambda: call(leaf() * 2, K.clone(), inplace=True, key_norm=True),
        ValueError, ("key_norm=True", "gradient", "inplace=False")),
    # maps
    Bad("no maps", lambda: in_bands([]), ValueError, ("1 to 4", r"\[\]")),
    Bad("too many maps", lambda: in_bands([IDENTITY] * 5), ValueError, ("1 to 4",)),
    Bad("maps of numbers", lambda: in_bands([(1.0, 2.0)]), TypeError, ("PositionMap", "1.0")),
    Bad("a map without end", lambda: in_bands([(PositionMap(float("inf")), PositionMap())]),
        ValueError, ("finite", "inf")),
    # xPos
    Bad("xpos too long", lambda: call(rope=RotaryEmbedding.xpos(8),
                                      positions=torch.arange(6) * 20000), ValueError,
        ("100000", "xpos_attention", "float32")),
    Bad("xpos too long for halves",
        lambda: call(Q.half(), K.half(), RotaryEmbedding.xpos(8), torch.arange(6) * 2000),
        ValueError, ("10000", "xpos_attention", "float16", "4532")),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_input(bad):
    with pytest.raises(bad.exception) as caught:
        bad.make()
    message = str(caught.value)
    for pattern in bad.says:
        assert re.search(pattern, message), f"{pattern!r} is not in: {message}"


def test_what_was_refused_has_changed_nothing():
    q = leaf()
    before = q.detach().clone()
    with pytest.raises(ValueError):
        call(q, inplace=True)
    assert torch.equal(q, before)


def test_a_given_length_is_enough_where_positions_cannot_be_read():
    """As on a GPU: nothing is read where seq_len tells."""
    from longattn.rotary import positions

    q, k = Q.to("meta"), K.to("meta")
    found = positions.resolve(torch.arange(6, device="meta"), q, k)
    assert positions.extent(found, q, k, 500, "xPos") == (0, 499)


def test_packed_sequences_are_counted_where_only_distances_matter():
    own = torch.tensor([0, 1, 0, 1, 2, 3])
    counted, given = (
        torch.einsum("ihd,jgd->ihjg", *call(Q[0], K[0], BY_LENGTH, positions, seq_len=6))
        for positions in (None, own)
    )
    torch.testing.assert_close(counted[:2, :, :2], given[:2, :, :2])
    torch.testing.assert_close(counted[2:, :, 2:], given[2:, :, 2:])


def test_read_positions_and_a_given_length_choose_one_table():
    positions = torch.arange(6) * 100
    read = call(rope=BY_LENGTH, positions=positions)
    given = call(rope=BY_LENGTH, positions=positions, seq_len=501)
    other = call(rope=BY_LENGTH, positions=positions, seq_len=5000)
    assert all(torch.equal(one, two) for one, two in zip(read, given))
    assert not torch.equal(read[0], other[0])
