"""Weight formats: bytes as the placement counts them, errors as small as the levels allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.placement.model.shape import ModelShape
from moe2opt.result import InputError

torch = pytest.importorskip("torch", reason="packs matrices: needs torch")

from moe2opt.executor.store.formats import Desk, Format, format_of, from_bytes, pack, to_bytes


@pytest.mark.parametrize(
    ("name", "bits", "group"),
    [("fp32", 32, None), ("fp16", 16, None), ("int8", 8.5, 32), ("int4", 4.5, 32),
     ("int4", 4.25, 64), ("int8", 8.125, 128), ("int4", 4, None)],
)  # fmt: skip
def test_effective_bits_name_the_group(name: str, bits: float, group: int | None) -> None:
    """The surplus over 8 or 4 bits is the scale shared by a group."""
    assert format_of(name, bits) == Format(name, group)


@pytest.mark.parametrize(("name", "bits"), [("fp16", 17), ("int4", 4.3), ("int4", 3), ("q9", 9)])
def test_impossible_formats_are_refused(name: str, bits: float) -> None:
    """Names and bits that nothing packs to end in one message with the name."""
    with pytest.raises(InputError, match=name):
        format_of(name, bits)


@given(
    st.sampled_from([("fp32", 32.0), ("fp16", 16.0), ("int8", 8.5), ("int4", 4.5), ("int4", 4.25)]),
    st.integers(1, 8),
    st.integers(1, 8),
)
def test_bytes_agree_with_the_placement(form: tuple[str, float], rows: int, groups: int) -> None:
    """An expert packs to exactly the bytes that the placement charges for it."""
    width, inner = 64 * groups, 64 * rows
    packed = format_of(*form)
    held = 2 * packed.bytes_of((inner, width)) + packed.bytes_of((width, inner))
    shape = ModelShape("m", (0,), 1, 2, 1, width, 3.0 * width * inner, 0.0)
    assert held == shape.expert_bytes(form[1])


@pytest.mark.parametrize(
    "form", [Format("int8", 32), Format("int4", 32), Format("int4"), Format("fp16")]
)
def test_packing_and_bytes_go_there_and_back(form: Format) -> None:
    """Bytes rebuild the packed matrix exactly, and each weight is off by at most its share."""
    matrix = torch.randn(16, 128, generator=torch.Generator().manual_seed(0))
    packed = pack(matrix, form)
    content = to_bytes(packed)
    assert content.numel() == packed.nbytes == form.bytes_of((16, 128))
    again = Desk().unpacked(from_bytes(content, (16, 128), form))
    assert torch.equal(again, Desk().unpacked(packed))
    groups = matrix.view(16, -1, form.group or 128).abs().amax(dim=2, keepdim=True)
    # Half a step; a full one at the end of the levels that the largest entry does not take.
    worst = groups / 2 ** (form.bits - 1) * 1.01 if form.grouped else groups * 2**-10
    assert ((again - matrix).abs().view(16, -1, form.group or 128) <= worst).all()


def test_a_desk_is_used_again() -> None:
    """Matrices of other sizes and formats, one after the other, come out as from a desk each."""
    draw, desk = torch.Generator().manual_seed(1), Desk()
    for rows, form in ((8, Format("int4", 32)), (64, Format("int8")), (4, Format("int4"))):
        packed = pack(torch.randn(rows, 64, generator=draw), form)
        assert torch.equal(desk.unpacked(packed), Desk().unpacked(packed))
    assert desk.nbytes == 64 * 64 * 4 + 8 * 32


def test_the_largest_entry_of_a_group_is_kept() -> None:
    """A group's entry of largest magnitude comes back but for the rounding of the scale."""
    matrix = torch.tensor([[3.0, -1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]])
    again = Desk().unpacked(pack(matrix, Format("int4", 4)))
    assert again[0, 0] == pytest.approx(3.0, rel=1e-3)
    assert (again[0, 4:] == 0).all()


def test_wrong_groups_and_bytes_are_refused() -> None:
    """Groups that do not divide a row and truncated bytes are one message each."""
    with pytest.raises(InputError, match="groups of 5"):
        pack(torch.zeros(2, 8), Format("int8", 5))
    with pytest.raises(InputError, match="has 20 bytes, got 3"):
        from_bytes(torch.zeros(3, dtype=torch.uint8), (2, 8), Format("int8", 8))
