"""The file of endpoints: what is in it, what may not be, and that keys stay in it."""

import logging
import os
import sys

import pytest
from mixgrpo_judge import AnswerCache, Endpoint, EndpointError, default_file, open_chat, read_endpoints

KEY = "sk-very-secret-0815"


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "endpoints.toml"
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
        return file

    return write


def test_a_file_of_two_endpoints(written, tmp_path):
    (tmp_path / "key.txt").write_text(f"{KEY}\n")
    file = written(
        """
        [qwen]
        url = "http://127.0.0.1:8000/v1"
        model = "Qwen3-VL"
        timeout = 12
        longest_side = 512
        extra = { chat_template_kwargs = { enable_thinking = false } }

        [far]
        url = "https://judge.example.org/api/"
        remote = true
        key_file = "key.txt"
        """
    )
    found = read_endpoints(file)
    assert list(found) == ["qwen", "far"]
    assert found["qwen"].base == "http://127.0.0.1:8000" and found["far"].base == "https://judge.example.org/api"
    assert (found["qwen"].timeout, found["qwen"].longest_side, found["qwen"].retries) == (12, 512, 3)
    assert found["qwen"].extra == {"chat_template_kwargs": {"enable_thinking": False}}
    assert (found["qwen"].local, found["far"].local, found["far"].key) == (True, False, KEY)
    assert open_chat("qwen", file).identity == "Qwen3-VL at http://127.0.0.1:8000"
    with pytest.raises(EndpointError, match="no endpoint 'qwem' in .*endpoints.toml, which has: qwen, far"):
        open_chat("qwem", file)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_key_or_a_file(tmp_path, encoding):
    (tmp_path / "key.txt").write_bytes(f"{KEY}\r\n".encode(encoding))
    file = tmp_path / "endpoints.toml"
    file.write_bytes('[a]\r\nurl = "http://localhost"\r\nmodel = "m"\r\nkey_file = "key.txt"\r\n'.encode(encoding))
    assert read_endpoints(file)["a"].key == KEY


def test_the_home_of_nobody():
    with pytest.raises(EndpointError, match="no home folder is known for .*'~nosuchuser/x'"):
        read_endpoints("~nosuchuser/x")
    with pytest.raises(ValueError, match="answers in ~nosuchuser/x cannot be used"):
        AnswerCache("~nosuchuser/x")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "[::1]"])
def test_addresses_of_this_machine_need_no_permission(host):
    assert Endpoint(name="a", url=f"http://{host}:8000").local


@pytest.mark.parametrize(
    "host",
    [
        "192.168.1.20",
        "example.org",
        "127.0.0.1.example.org",
        "localhost.example.org",
        "[fe80::1]",
        "0.0.0.0",
        "2130706433",
    ],
)
def test_other_addresses_need_remote(host):
    with pytest.raises(EndpointError, match="is not this machine.*remote = true"):
        Endpoint(name="a", url=f"http://{host}:8000")
    assert not Endpoint(name="a", url=f"http://{host}:8000", remote=True).local


@pytest.mark.parametrize(
    "url,words",
    [
        ("file:///etc/passwd", "http or https address"),
        ("127.0.0.1:8000", "http or https address"),
        ("ftp://127.0.0.1", "http or https address"),
        (" http://127.0.0.1", "spaces or line ends"),
        ("http://127.0.0.1\n", "spaces or line ends"),
        ("http://127.0.0.1:80 00", "spaces or line ends"),
        ("http://[::1", "such as http://127.0.0.1:8000"),
        ("http://", "http or https address"),
        ("http://127.0.0.1:eight", "such as http://127.0.0.1:8000"),
        ("http://127.0.0.1:99999", "such as http://127.0.0.1:8000"),
        (f"http://me:{KEY}@127.0.0.1:8000", "keys? belongs into key"),
        (f"http://127.0.0.1:8000/v1?key={KEY}", "keys? belongs into key"),
        (f"http://127.0.0.1:8000@example.org/{KEY}", "belongs into key"),
    ],
)
def test_addresses_that_are_none(url, words):
    with pytest.raises(EndpointError, match=words) as error:
        Endpoint(name="a", url=url, key=KEY)
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    "text,words",
    [
        ("url = 'http://localhost'", "found 'url' outside"),
        ("[a]\nmodel = 'm'", "expected url = .* in .a. of .*, found none"),
        ("[a]\nurl = 'http://localhost'\nkye = 'KEY'", "unknown entry 'kye'; did you mean 'key'"),
        ("[a]\nurl = 'http://localhost'\nname = 'KEY'", "unknown entry 'name'"),
        ("[a]\nurl = 'http://localhost'\nkey_file = '~nosuchuser/x'", "key_file of .a. .* '~nosuchuser/x'"),
        ("[a]\nurl = 'http://localhost'\nkey_file = 5", "key_file of .a. in .* to be text in quotes"),
        ("[a]\nurl = 'http://localhost'\ntimeout = 'KEY'", "timeout of .a. in .* to be a number"),
        ("[a]\nurl = 'http://localhost'\nretries = 1.5", "retries of .a. in .* to be a whole number"),
        ("[a]\nurl = 'http://localhost'\nremote = 1", "remote of .a. in .* to be true or false"),
        ("[a]\nurl = 'http://localhost'\nextra = 'KEY'", "extra of .a. in .* to be a table"),
        ("[a]\nurl = 'http://localhost'\nkey = 5", "key of .a. in .* to be text in quotes"),
        ("[a]\nurl = 'http://localhost'\nconcurrency = 0", "concurrency of 'a' in 1..1024, found 0"),
        ("[a]\nurl = 'http://localhost'\ntimeout = nan", "timeout of 'a'"),
        ("[a]\nurl = 'http://localhost'\nquality = 100", "quality of 'a' in 1..95"),
        ("[a]\nurl = 'http://localhost'\nkey = 'KEY\\n'\nkey = 'KEY'", "is not TOML"),
        ("[a]\nurl = 'http://localhost'\nkey = \"KEY\\r\\nX-Evil: 1\"", "the key of 'a' holds spaces, line ends"),
        ("[a]\nurl = 'http://localhost'\nkey_file = 'gone.txt'", "key_file of .a. in .* cannot be read: .*gone.txt"),
        ("[a\nKEY", "is not TOML"),
    ],
)
def test_faults_are_named_and_values_are_not(written, text, words):
    with pytest.raises(EndpointError, match=words) as error:
        read_endpoints(written(text.replace("KEY", KEY)))
    chain = [error.value, error.value.__cause__, None if error.value.__suppress_context__ else error.value.__context__]
    assert KEY not in " ".join(str(link) for link in chain) and "endpoints.toml" in str(error.value)


def test_no_file_is_said_with_its_place(tmp_path):
    with pytest.raises(EndpointError, match=r"expected a file of endpoints at .*none\.toml, found none"):
        read_endpoints(tmp_path / "none.toml")


@pytest.mark.skipif(sys.platform == "win32", reason="another place there")
def test_the_default_file_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_file() == tmp_path / "mixgrpo" / "endpoints.toml"
    (tmp_path / "mixgrpo").mkdir()
    default_file().write_text("[a]\nurl = 'http://localhost:1'")
    assert list(read_endpoints()) == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_keys_that_others_can_read_are_warned_of(written, caplog):
    file = written(f"[a]\nurl = 'http://localhost'\nkey = '{KEY}'")
    read_endpoints(file)
    assert caplog.text == ""
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert KEY not in repr(read_endpoints(file))
    read_endpoints(file)
    assert caplog.text.count("chmod 600") == 1 and KEY not in caplog.text


def test_a_key_that_goes_unencrypted_is_warned_of(caplog):
    Endpoint(name="a", url="https://example.org", remote=True, key=KEY)
    assert caplog.text == ""
    Endpoint(name="a", url="http://example.org", remote=True, key=KEY)
    assert "unencrypted" in caplog.text and KEY not in caplog.text
