"""What TensorFlow's kinds of files share: varints, and the checksum of their parts.

Varints: https://protobuf.dev/programming-guides/encoding/; the checksum:
https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

from __future__ import annotations

import google_crc32c

LONGEST = 10  # bytes of a varint


def masked_crc(content: bytes) -> int:
    """The CRC32C of some bytes as these files hold it: turned and shifted."""
    crc = google_crc32c.value(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(data: bytes, pos: int) -> tuple[int, int]:
    """(value, next byte) of the varint at `pos`; past the end it is an IndexError.

    Raises:
        ValueError: it is longer than any.
    """
    value = data[pos]
    pos += 1
    if value < 0x80:
        return value, pos
    value &= 0x7F
    shift = 7
    while shift < 7 * LONGEST:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
    raise ValueError(f"an integer of more than {LONGEST} bytes")
