"""Inputs gone wrong, each from a valid one and a ``random.Random``: bytes, texts, JSON values and containers."""

import copy
import io
import json
import re
import struct
import zipfile

NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 255, 10**6, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**63), 10**30, 10**400),
    *(0.0, -0.0, 0.5, -0.5, 1e-320, 1e-9, 1e9, 1e308, -1e308, float("inf"), float("-inf"), float("nan")),
)
TEXTS = (
    *(
        "",
        " ",
        "\n",
        "\0",
        "a",
        "nan",
        "1e999",
        "None",
        "true",
        "-",
        ".",
        "..",
        "/",
        "~",
        "~nosuchuser/x",
        "C:\\new\\t",
    ),
    *("../../../../etc/passwd", "/etc/passwd", "/root", "/dev/null", "%s%n", "{0.__class__}", "$(touch x)", "\u202e"),
    *("\ufeff", "\u2028", "\U0001f9d9", "e\u0301" * 50, "[" * 5000, "(" * 5000, "{" * 5000, "x" * 20_000, "*" * 50_000),
    *(" " * 50_000, "FlowSDE(eta=", "FlowSDE(eta=0.7)", "Nothing()", "open('x', 'w')", "__import__('os').abort()"),
    *("ShapeReward()", "[1, 2]", "(1,)", "-5", "lambda: 0", "a.b.c()", "f(**{})", "9" * 5000, "0x", "'", '"', "\\"),
)
FOREIGN = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
    b"<!DOCTYPE html><html><head><title>404</title></head><body>Not Found</body></html>",
    b"",
    b"\0" * 64,
    b"PK\x03\x04" + b"\0" * 30,
    b"\x80\x02.",
    b"\x1f\x8b\x08" + b"\0" * 20,
    b"{}",
    b"null",
    b"\xff\xfe[\0]\0",
    "sch\u00f6n\n".encode("latin-1"),
)


def number(chance):
    return chance.choice(NUMBERS)


def odd(chance, depth=0):
    """A value of any JSON kind."""
    kinds = [
        lambda: number(chance),
        lambda: chance.choice(TEXTS),
        lambda: chance.choice((None, True, False)),
        lambda: [odd(chance, depth + 1) for _ in range(chance.randrange(4))],
        lambda: {chance.choice(TEXTS)[:30] or "k": odd(chance, depth + 1) for _ in range(chance.randrange(4))},
    ]
    return chance.choice(kinds[:3] if depth > 2 else kinds)()


def nested(chance):
    """Stands for lists or tables in each other, deeper than Python can write them: see `dumps`."""
    return f"@{chance.choice('[{')}{chance.choice((20, 200, 2_000, 100_000))}@"


def dumps(value, **more):
    """JSON, with what `nested` stands for written out."""

    def written(match):
        depth = int(match[2])
        return "[" * depth + "]" * depth if match[1] == "[" else '{"a":' * depth + "1" + "}" * depth

    return re.sub(r'"@([\[{])(\d+)@"', written, json.dumps(value, **more))


def places(value, path=()):
    """The paths of all parts of a JSON value."""
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def value(chance, given, times=None):
    """A JSON value with one to three parts replaced, dropped, doubled, renamed or wrapped."""
    given = copy.deepcopy(given)
    for _ in range(times or chance.choice((1, 1, 1, 2, 3))):
        path = chance.choice([path for path in places(given) if path] or [()])
        if not path:
            return odd(chance)
        holder = given
        for key in path[:-1]:
            holder = holder[key]
        _change(chance, holder, path[-1])
    return given


def _change(chance, holder, key):
    old = holder[key]
    what = chance.randrange(10)
    if what < 4:
        holder[key] = odd(chance)
    elif what < 6:
        holder[key] = _near(chance, old)
    elif what == 6:
        del holder[key]
    elif what == 7 and isinstance(holder, dict):
        holder[chance.choice(TEXTS)[:40]] = holder.pop(key) if chance.random() < 0.5 else old
    elif what == 8:
        holder[key] = chance.choice(([old], {"a": old}, str(old), [old] * 3))
    else:
        holder[key] = nested(chance) if chance.random() < 0.3 else chance.choice(list(_values(holder)))


def _values(holder):
    return holder.values() if isinstance(holder, dict) else holder


def _near(chance, old):
    """Another value of the same kind."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int | float):
        half = old + 0.5 if abs(old) < 2**60 else 0.5
        return chance.choice((number(chance), -old, old + 1, old * 1000, str(old), half))
    if isinstance(old, str):
        return text(chance, old)
    return odd(chance)


def text(chance, given):
    """A text with one to four places changed."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        given = chance.choice(_TEXT)(chance, given)
    return given


def _number_replaced(chance, given):
    found = list(re.finditer(r"\d[\d.e_]*", given))
    if not found:
        return given + str(number(chance))
    at = chance.choice(found)
    new = number(chance)
    return given[: at.start()] + (str(new) if abs(new) < 10**40 else "1" * 300) + given[at.end() :]


def _piece_replaced(chance, given):
    a, b = sorted(chance.randrange(len(given) + 1) for _ in range(2))
    return given[:a] + chance.choice(TEXTS) + given[min(b, a + 20) :]


def _cut(chance, given):
    a, b = sorted(chance.randrange(len(given) + 1) for _ in range(2))
    return chance.choice((given[:a], given[b:], given[:a] + given[b:]))


def _lines_moved(chance, given):
    lines = given.split("\n")
    a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
    what = chance.randrange(4)
    if what == 0:
        lines[a], lines[b] = lines[b], lines[a]
    elif what == 1:
        lines.insert(a, lines[b])
    elif what == 2:
        del lines[a]
    else:
        lines[a] = lines[a] * chance.choice((2, 50, 1000)) if len(lines[a]) < 500 else lines[a] * 2
    return "\n".join(lines)


def _character_changed(chance, given):
    at = chance.randrange(len(given) + 1)
    new = chance.choice("\"'[]{}()=,:;#\\/*.-+\0\r\n\t \u00e9\ufeff\u2028\U0001f600<>&%$|")
    return given[:at] + new + given[at + chance.randrange(2) :]


_TEXT = (_number_replaced, _piece_replaced, _cut, _lines_moved, _character_changed, _character_changed)


def encoded(chance, given):
    """A text as bytes: most of the time in UTF-8, else as other programs write it, or broken."""
    given = given.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    kind = chance.randrange(12)
    if kind == 0:
        return given.encode("utf-8-sig")
    if kind == 1:
        return given.encode("utf-16")
    if kind == 2:
        return given.encode("latin-1", "replace")
    if kind == 3:
        return given.replace("\n", "\r\n").encode()
    return data(chance, given.encode()) if kind == 4 else given.encode()


def data(chance, given):
    """Bytes with one to four places flipped, cut, doubled, moved, filled or replaced by another file."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        given = _data_once(chance, bytearray(given))
    return bytes(given)


def _data_once(chance, given):
    size = len(given)
    a, b = sorted(chance.randrange(size + 1) for _ in range(2))
    what = chance.randrange(9)
    if what < 2 and size:
        for _ in range(chance.choice((1, 1, 8, 64))):
            given[chance.randrange(size)] ^= 1 << chance.randrange(8)
    elif what == 2 and size:
        given[chance.randrange(size)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
    elif what == 3:
        given = given[:a]
    elif what == 4:
        given = given[:a] + given[b:]
    elif what == 5:
        given = given[:b] + given[a : a + 4096] + given[b:]
    elif what == 6:
        given[a:b] = bytes([chance.choice((0, 0xFF, 0x20))]) * (b - a)
    elif what == 7:
        given[a:a] = chance.randbytes(chance.choice((1, 8, 300)))
    elif chance.random() < 0.3:
        given = bytearray(chance.choice(FOREIGN))
    return given


def safetensors(chance, given):
    """A safetensors file whose header, header length or numbers are changed."""
    what = chance.randrange(10)
    if what < 2 or len(given) < 8:
        return data(chance, given)
    (length,) = struct.unpack("<Q", given[:8])
    head, body = given[8 : 8 + length], bytearray(given[8 + length :])
    if what == 2:
        lengths = (0, 1, length - 1, length + 1, length + 8, len(given), 2**31, 2**32, 100_000_001, 2**63, 2**64 - 1)
        return struct.pack("<Q", chance.choice(lengths)) + head + body
    if what < 5 and len(body) >= 4:  # numbers that are none, or far away
        special = struct.pack("<f", chance.choice((float("nan"), float("inf"), -float("inf"), 1e38, 0.0)))
        for _ in range(chance.choice((1, 1, 100))):
            at = chance.randrange(len(body) // 4) * 4
            body[at : at + 4] = special
        return given[: 8 + length] + bytes(body)
    table = json.loads(head)
    table = _table(chance, table) if what < 8 else value(chance, table)
    if chance.random() < 0.1:
        body = body[: len(body) // 2]
    new = dumps(table).encode()
    return struct.pack("<Q", len(new)) + new + bytes(body)


def _table(chance, table):
    """A header that is still one, of other names, dtypes, shapes or places."""
    names = [name for name in table if name != "__metadata__"]
    if not names:
        return value(chance, table)
    name = chance.choice(names)
    entry, what = table[name], chance.randrange(7)
    if what == 0:
        entry["dtype"] = chance.choice(("F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "C64", "X", ""))
    elif what == 1:
        entry["shape"] = chance.choice(([], [0], [1], entry["shape"][::-1], [2**40, 2**40], [-1], [1] * 70, ["2"]))
    elif what == 2:
        entry["data_offsets"] = chance.choice(([0, 0], entry["data_offsets"][::-1], [0, 2**60], [-4, 0], [1, 2]))
    elif what == 3:
        table[chance.choice(TEXTS)[:60] + name[3:]] = table.pop(name)
    elif what == 4:
        table.pop(name)
    elif what == 5:
        other = chance.choice(names)
        table[name], table[other] = table[other], table[name]
    else:
        table["__metadata__"] = chance.choice((None, {}, {"format": "tf"}, {"format": "pt", "x": "y" * 9999}, {"a": 1}))
    return table


def archive(chance, given):
    """A zip file (a torch file is one) with a member changed, left out, doubled or renamed."""
    if chance.random() < 0.4:
        return data(chance, given)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(given)) as old, zipfile.ZipFile(made, "w") as new:
        names = old.namelist()
        chosen, what = chance.choice(names), chance.randrange(5)
        for name in names:
            content = old.read(name)
            if name == chosen and what < 3:
                content = data(chance, content)
            if name != chosen or what != 3:
                new.writestr("../x" if name == chosen and what == 4 else name, content)
    return made.getvalue()
