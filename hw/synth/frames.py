"""Frames of the serial line between a host and the board shell: the Python side of ``hw/synth/shell``.

::

    host to board    C5 | image: words of the input stream, the lowest byte first | CRC-16, high byte first
    board to host    5C | status | design, 4 bytes | outputs: words of the stream | CRC-16, high byte first

The CRC is CRC-16/CCITT (0x1021, initial value 0xFFFF), which :func:`binascii.crc_hqx` computes. Of a reply it goes over
all after 5C; if there are outputs, over the image and then these bytes: a late reply does not pass for that of the next
image.
"""

from __future__ import annotations

import binascii

HEAD, REPLY_HEAD = 0xC5, 0x5C
INITIAL_CRC = 0xFFFF
HEADER_BYTES = 6
CRC_BYTES = 2
STATUSES: dict[int, str] = {
    0: "the image was computed",
    1: "the image came with a wrong checksum",
    2: "the image stopped before its end",
}


class FrameError(ValueError):
    """A reply is not what a board sends."""


def checksum(content: bytes) -> bytes:
    """Return the CRC-16 of *content*, high byte first.

    >>> checksum(b"123456789").hex()
    '29b1'
    """
    return binascii.crc_hqx(content, INITIAL_CRC).to_bytes(CRC_BYTES, "big")


def image_frame(image: bytes) -> bytes:
    """Return the frame that carries *image*, the words of the input stream."""
    return bytes([HEAD]) + image + checksum(image)


def reply_bytes(status: int, output_bytes: int) -> int:
    """Return the length of a reply with *status*; only an image that was computed has outputs."""
    return HEADER_BYTES + (output_bytes if status == 0 else 0) + CRC_BYTES


def reply_of(frame: bytes, output_bytes: int, image: bytes) -> tuple[int, str, bytes]:
    """Return status, design and outputs of the reply to *image*.

    Raises:
        FrameError: it does not begin as a reply does, its status is unknown, or its length or checksum is wrong.
    """
    if len(frame) < HEADER_BYTES or frame[0] != REPLY_HEAD:
        raise FrameError(
            f"a reply begins with {REPLY_HEAD:02x} and has {HEADER_BYTES} bytes or more, not {frame.hex()}"
        )
    status = frame[1]
    if status not in STATUSES:
        raise FrameError(f"a reply has status {status}; allowed: {', '.join(map(str, STATUSES))}")
    if len(frame) != reply_bytes(status, output_bytes):
        raise FrameError(f"a reply of status {status} has {reply_bytes(status, output_bytes)} bytes, not {len(frame)}")
    content, sent = frame[1:-CRC_BYTES], frame[-CRC_BYTES:]
    computed = checksum(image + content if status == 0 else content)
    if computed != sent:
        raise FrameError(
            f"a reply has the checksum {sent.hex()}; its bytes make {computed.hex()}: they were damaged, or answer "
            "another image"
        )
    return status, content[1:5].hex(), content[5:]
