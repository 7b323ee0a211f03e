"""Inputs without libFuzzer: mutations of those that are known, of which the ones that led to something new are kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from fuzzing.target import Label

#: Numbers on whose other side something changes.
_NUMBERS = [b"0", b"1", b"-1", b"7", b"8", b"255", b"256", b"1000", b"1001", b"10000", b"65536", b"2147483647"]
_NUMBERS += [b"2147483648", b"9223372036854775807", b"18446744073709551616", b"99999999999999999999"]
_BYTES = [b"\0", b"\r", b"\n", b"\r\n", b"\t", b" ", b"%", b"%00", b"%2F", b"+", b"\x7f", b"\x80", b"\xff", b'"', b"'"]
_BYTES += ["é".encode(), "\u212a".encode(), "\ufffe".encode(), "\U0001f600".encode(), b"\xed\xa0\x80", b"\xc0\xaf"]

#: One input in so many is made long, which shows what takes more than its length in time.
_PUMP = 500
_POOL = 4000


class Mutator:
    """Makes inputs.

    :param seeds: what to begin with.
    :param max_size: bytes of the longest input that comes out.
    """

    def __init__(self, seeds: Sequence[bytes], tokens: Sequence[bytes], max_size: int, chance: random.Random) -> None:
        self.pool = list(seeds) or [b""]
        self._labels: set[Label] = set()
        self._tokens = [*tokens, *_NUMBERS, *_BYTES]
        self._max_size = max_size
        self._chance = chance
        self._steps: list[Callable[[bytes], bytes]] = [
            self._change, self._insert, self._delete, self._token, self._token, self._replace, self._repeat,
            self._splice, self._number, self._case,
        ]  # fmt: skip

    def make(self) -> bytes:
        chance = self._chance
        data = chance.choice(self.pool)
        while True:
            data = chance.choice(self._steps)(data)
            if chance.random() < 0.5:
                break
        if not chance.randrange(_PUMP):
            data = self._pump(data)
        return data[: self._max_size]

    def learn(self, data: bytes, label: Label) -> None:
        """Keep an input that led to something new."""
        if label not in self._labels:
            self._labels.add(label)
            if len(self.pool) < _POOL:
                self.pool.append(data)

    def _span(self, data: bytes, longest: int = 32) -> tuple[int, int]:
        begin = self._chance.randrange(len(data) + 1)
        return begin, min(len(data), begin + self._chance.randint(1, longest))

    def _change(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self._chance.randrange(len(data))
        return data[:at] + bytes([self._chance.randrange(256)]) + data[at + 1 :]

    def _insert(self, data: bytes) -> bytes:
        at = self._chance.randrange(len(data) + 1)
        return data[:at] + self._chance.randbytes(self._chance.randint(1, 4)) + data[at:]

    def _delete(self, data: bytes) -> bytes:
        begin, end = self._span(data)
        return data[:begin] + data[end:]

    def _token(self, data: bytes) -> bytes:
        at = self._chance.randrange(len(data) + 1)
        return data[:at] + self._chance.choice(self._tokens) + data[at:]

    def _replace(self, data: bytes) -> bytes:
        begin, end = self._span(data, 8)
        return data[:begin] + self._chance.choice(self._tokens) + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        begin, end = self._span(data)
        return data[:end] + data[begin:end] * self._chance.randint(1, 3) + data[end:]

    def _pump(self, data: bytes) -> bytes:
        begin, end = self._span(data, 8)
        times = self._max_size // max(1, end - begin)
        return data[:end] + data[begin:end] * self._chance.randint(0, times) + data[end:]

    def _splice(self, data: bytes) -> bytes:
        other = self._chance.choice(self.pool)
        begin, end = self._span(other, 64)
        at = self._chance.randrange(len(data) + 1)
        return data[:at] + other[begin:end] + data[at if self._chance.random() < 0.5 else end :]

    def _number(self, data: bytes) -> bytes:
        digits = [at for at, byte in enumerate(data[:512]) if 48 <= byte <= 57]
        if not digits:
            return data
        begin = end = self._chance.choice(digits)
        while end < len(data) and data[end : end + 1].isdigit():
            end += 1
        return data[:begin] + self._chance.choice(_NUMBERS) + data[end:]

    def _case(self, data: bytes) -> bytes:
        begin, end = self._span(data)
        return data[:begin] + data[begin:end].swapcase() + data[end:]
