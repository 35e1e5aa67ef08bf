# SPDX-License-Identifier: BSD-3-Clause
"""torch.func: grad, vjp, jacrev and vmap agree with the reference, nested ones too; forward mode
and second derivatives raise a sentence."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

import longattn
from longattn import reference
from longattn.masks import Causal

# vmap goes through a loop of torch's, which says that a kernel for the purpose would be faster.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")

YARN = longattn.RotaryEmbedding(
    8, scaling=longattn.rope.YaRN(4.0, original_max_position_embeddings=4)
)
XPOS = longattn.RotaryEmbedding.xpos(8, scale_base=0.01)  # chunks of a few keys

torch.manual_seed(0)
Q, TANGENT = (torch.randn(1, 9, 4, 8, dtype=torch.float64) for _ in range(2))
K, V = (torch.randn(1, 11, 2, 8, dtype=torch.float64) for _ in range(2))
MANY_Q = torch.randn(3, 1, 9, 4, 8, dtype=torch.float64)
MANY_K, MANY_V = (torch.randn(3, 1, 11, 2, 8, dtype=torch.float64) for _ in range(2))


def attends(module):
    return {
        "attention": lambda q, k, v: module.attention(q, k, v, Causal(), return_lse=True),
        "packed": lambda q, k, v: module.attention(
            q[0], k[0], v[0], Causal(), return_lse=True,
            cu_seqlens_q=torch.tensor([0, 4, 9]), cu_seqlens_k=torch.tensor([0, 5, 11]),
        ),
        "scores": lambda q, k, v: module.attention(
            q, k, v, Causal(), return_lse=True, softcap=2.0,
            bias=longattn.RelativeBias(q[0, :5, :, 0].T), sink_logits=k[0, 0, 0, :4],
        ),
        "lambda": lambda q, k, v: module.lambda_attention(
            q, k, v, window=3, sink_tokens=1, return_lse=True
        ),
        "dilated": lambda q, k, v: module.dilated_attention(
            q, k, v, [4, 16], [1, 2], return_lse=True
        ),
        "detached": lambda q, k, v: module.dilated_attention(
            q, k, v, [4, 16], [1, 2], detach_weights=True, return_lse=True
        ),
        "shifted": lambda q, k, v: module.shifted_sparse_attention(q, k, v, 4, return_lse=True),
        "rotary": lambda q, k, v: module.attention(
            *module.apply_rotary(q, k, YARN, q_bias=v[0, :4, :1, :].flatten(1), key_norm=True,
                                 q_scale=longattn.LogN(4)),
            v, Causal(), return_lse=True,
        ),
        "rerope": lambda q, k, v: module.rerope_attention(
            q, k, v, YARN, window=3, leak=2.5, return_lse=True, bias=longattn.Alibi()
        ),
        "rerope, packed": lambda q, k, v: module.rerope_attention(
            q[0], k[0], v[0], YARN, window=2, return_lse=True,
            cu_seqlens_q=torch.tensor([0, 4, 9]), cu_seqlens_k=torch.tensor([0, 5, 11]),
        ),
        "lm_infinite": lambda q, k, v: module.lm_infinite_attention(
            q, k, v, YARN, window=3, sink_tokens=2, distance_ceiling=3, return_lse=True,
            sink_logits=k[0, 0, 0, :4],
        ),
        "xpos": lambda q, k, v: module.xpos_attention(q, k, v, XPOS, block=3, return_lse=True),
    }  # fmt: skip


def loss(attend):
    """Of q, k and v; it weighs the elements of out and of lse differently."""

    def of(q, k, v):
        out, lse = attend(q, k, v)
        lse = torch.where(lse == -torch.inf, 0, lse)
        return (out.sin() * torch.arange(out.shape[-1])).sum() + lse.square().sum()

    return of


def every(q, k, v, function):
    """`function` on each of the three, one after the other."""
    return torch.stack([function(*qkv) for qkv in zip(q, k, v)])


USES = {
    "grad": lambda f: grad(loss(f), argnums=(0, 1, 2))(Q, K, V),
    "grad of keys alone": lambda f: grad(loss(f), argnums=1)(Q, K, V),
    "vjp": lambda f: vjp(lambda *qkv: f(*qkv)[0].flatten(), Q, K, V)[1](TANGENT.flatten()),
    "jacrev": lambda f: jacrev(lambda v: f(Q, K, v)[0][..., 0])(V),
    "vmap": lambda f: vmap(f)(MANY_Q, MANY_K, MANY_V),
    "vmap of queries alone": lambda f: vmap(f, in_dims=(1, None, None))(
        MANY_Q.movedim(0, 1), K, V
    ),
    "vmap of grad": lambda f: vmap(grad(loss(f)))(MANY_Q, MANY_K, MANY_V),
    "grad of vmap": lambda f: grad(lambda q: vmap(loss(f))(q, MANY_K, MANY_V).square().sum())(
        MANY_Q
    ),
    "grad of what a gradient is multiplied with": lambda f: grad(
        lambda factor: (factor * grad(loss(f))(Q, K, V)).square().sum()
    )(torch.tensor(2.0, dtype=torch.float64)),
    "grad of what a gradient consists of": lambda f: grad(
        lambda q: grad(lambda x: (x * f(q, K, V)[0].sum()))(V.new_ones(())).sin()
    )(Q),
    "without gradients inside": lambda f: grad(
        lambda q: (torch.no_grad()(f)(q, K, V)[0] * q.view_as(f(Q, K, V)[0])).sum()
    )(Q),
}  # fmt: skip


@pytest.mark.parametrize("name", attends(longattn))
@pytest.mark.parametrize("use", USES)
def test_reverse_mode_and_vmap_agree_with_the_reference(use, name):
    ours, theirs = (USES[use](attends(module)[name]) for module in (longattn, reference))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_vmap_inside_of_autograd():
    q = MANY_Q.clone().requires_grad_()
    attend = attends(longattn)["attention"]
    (ours,) = torch.autograd.grad(vmap(loss(attend))(q, MANY_K, MANY_V).sum(), q)
    (theirs,) = torch.autograd.grad(every(q, MANY_K, MANY_V, loss(attend)).sum(), q)
    torch.testing.assert_close(ours, theirs)


def test_grad_inside_of_autograd():
    """The gradient by k reaches a scale that autograd knows of."""
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    attend = attends(longattn)["attention"]
    gradient = grad(loss(attend), argnums=1)(Q, K, V)
    (scale * gradient).sum().backward()
    torch.testing.assert_close(scale.grad, gradient.sum())


FORWARD_MODE = "longattn's (attention|apply_rotary) has no forward-mode"
FORWARD = {
    "jvp": lambda f: jvp(lambda q: f(q, K, V), (Q,), (TANGENT,)),
    "jvp of values": lambda f: jvp(lambda v: f(Q, K, v), (V,), (V,)),
    "jacfwd": lambda f: jacfwd(lambda q: f(q, K, V)[0])(Q),
    "linearize": lambda f: linearize(lambda q: f(q, K, V), Q)[1](TANGENT),
    "hessian": lambda f: hessian(loss(f))(Q, K, V),
    "jvp of grad": lambda f: jvp(lambda q: grad(loss(f))(q, K, V), (Q,), (TANGENT,)),
    "grad of jvp": lambda f: grad(
        lambda q: jvp(lambda k: loss(f)(q, k, V), (K,), (K,))[1].sum()
    )(Q),
    "jvp of an incoming gradient": lambda f: jvp(
        vjp(lambda q: f(q, K, V)[0].flatten(), Q)[1], (TANGENT.flatten(),), (TANGENT.flatten(),)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", attends(longattn))
@pytest.mark.parametrize("use", FORWARD)
def test_forward_mode_raises_a_sentence(use, name):
    with pytest.raises(NotImplementedError, match=FORWARD_MODE):
        FORWARD[use](attends(longattn)[name])


def dual_queries(f):
    f(forward_ad.make_dual(Q, TANGENT), K, V)


def dual_gradient(f):
    q = Q.clone().requires_grad_()
    out = f(q, K, V)[0]
    torch.autograd.grad(out, q, forward_ad.make_dual(TANGENT.view_as(out), TANGENT.view_as(out)))


@pytest.mark.parametrize("use", [dual_queries, dual_gradient])
def test_dual_tensors_raise_a_sentence(use):
    with forward_ad.dual_level():
        attends(longattn)["attention"](Q, K, V)  # without a tangent it works
        with pytest.raises(NotImplementedError, match=FORWARD_MODE):
            use(attends(longattn)["attention"])


def gradient_of_a_gradient_by_autograd(f):
    q = Q.clone().requires_grad_()
    grad(loss(f), argnums=1)(q, K, V).sum().backward()


SECOND = {
    "grad of grad": lambda f: grad(lambda q: grad(loss(f))(q, K, V).sum())(Q),
    "another argument": lambda f: grad(lambda k: grad(loss(f))(Q, k, V).sum())(K),
    "jacrev of grad": lambda f: jacrev(lambda q: grad(loss(f))(q, K, V).sum())(Q),
    "linear in out": lambda f: grad(
        lambda q: grad(lambda v: f(q, K, v)[0].sum())(V).square().sum()
    )(Q),
    "autograd of grad": gradient_of_a_gradient_by_autograd,
    "vmap of grad of grad": lambda f: vmap(
        lambda q, k, v: grad(lambda q: grad(loss(f))(q, k, v).sum())(q)
    )(MANY_Q, MANY_K, MANY_V),
}  # fmt: skip


@pytest.mark.parametrize("name", attends(longattn))
@pytest.mark.parametrize("use", SECOND)
def test_second_derivatives_raise_a_sentence(use, name):
    says = "longattn's (attention|apply_rotary) has no second derivatives"
    with pytest.raises(NotImplementedError, match=says):
        SECOND[use](attends(longattn)[name])


@pytest.mark.parametrize("transform", [grad, vmap], ids=lambda t: t.__name__)
def test_in_place_rotations_raise_a_sentence(transform):
    def loss(q):
        return longattn.apply_rotary(q * 1, K * 1, YARN, inplace=True)[0].sum()

    with pytest.raises(NotImplementedError, match="inplace=True cannot be transformed"):
        transform(loss)(Q if transform is grad else MANY_Q)
