"""Settings: a wrong line must be named by its place, and every wrong line in one run."""

from __future__ import annotations

import pytest

from bsmtp_batch.config import Settings, load
from bsmtp_batch.errors import Setting
from bsmtp_batch.spool.names import Limits


def written(tmp_path, text):
    path = tmp_path / "bsmtp-batch.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_spool_alone_is_enough(tmp_path):
    found = load(None, spool=str(tmp_path))

    assert found.node.spool == str(tmp_path)
    assert found.node.name
    assert found.route("anything.example").seal_age == 300


def test_units_are_read_as_people_write_them(tmp_path):
    path = written(tmp_path, '[route."example.org"]\nseal_age = "15m"\nseal_size = "20M"\nkeep = "1w"\n')

    route = load(path).route("example.org")

    assert (route.seal_age, route.seal_size, route.keep) == (900, 20_000_000, 604_800)


def test_every_fault_is_named_at_once_with_its_line_and_column(tmp_path):
    path = written(
        tmp_path,
        '[node]\nname = "no spaces allowed"\n\n[route."example.org"]\n  seal_agge = 5\nseal_count = "many"\n'
        '[import]\non_reject = "drop"\n',
    )

    with pytest.raises(Setting) as caught:
        load(path)

    text = str(caught.value)
    assert f"{path}:2:1: node.name" in text
    assert f"{path}:5:3: route.example.org.seal_agge: there is no such setting; did you mean seal_age?" in text
    assert f"{path}:6:1: route.example.org.seal_count" in text
    assert f"{path}:8:1: import.on_reject" in text
    assert caught.value.code == 78


def test_faults_come_in_the_order_of_the_file_and_say_what_to_write(tmp_path):
    path = written(
        tmp_path,
        '[node]\npostmastr = "x"\nspool = "spool"\n[route."a.example"]\nseal_size = 0\nmin_inodes = "many"\n'
        'dialect = "old"\n'
        '[peer.stick]\n[peer.other]\nurl = "/media/stick"\n'
        '[import]\nto = "127.0.0.1:25"\nlocal_domains = "a.example"\nkeep = -1\n',
    )

    with pytest.raises(Setting) as caught:
        load(path)

    assert str(caught.value).splitlines()[1:-1] == [
        f"  {path}:2:1: node.postmastr: there is no such setting; did you mean postmaster?",
        f'  {path}:3:1: node.spool: write the whole path: "/var/spool/bsmtp-batch"',
        f"  {path}:5:1: route.a.example.seal_size: write a number above 0",
        f"  {path}:6:1: route.a.example.min_inodes: write a whole number",
        f"  {path}:7:1: route.a.example.dialect: write 'esmtp' or 'classic'",
        f"  {path}:8:1: peer.stick.url: this has to be set",
        f'  {path}:10:1: peer.other.url: begin with the scheme: "dir:/media/stick" for a peer,'
        ' "smtp://127.0.0.1:25" for a target',
        f'  {path}:12:1: import.to: begin with the scheme: "dir:/media/stick" for a peer,'
        ' "smtp://127.0.0.1:25" for a target',
        f'  {path}:13:1: import.local_domains: write a list: ["one", "two"]',
        f"  {path}:14:1: import.keep: write 0 or a number above it",
    ]


def test_broken_toml_names_its_place(tmp_path):
    path = written(tmp_path, "[node]\nname = \n")

    with pytest.raises(Setting, match=r"bsmtp-batch\.toml:2:8"):
        load(path)


def test_a_missing_file_is_a_setting_problem_and_no_traceback(tmp_path):
    with pytest.raises(Setting, match="cannot read the settings"):
        load(str(tmp_path / "nothing.toml"))


def test_a_peer_and_an_import_target_are_kept_as_written(tmp_path):
    path = written(
        tmp_path,
        '[peer.hub]\nurl = "dir:/media/stick"\n[import]\nto = "smtp://[::1]:25"\nlocal_domains = ["Example.ORG"]\n',
    )

    found = load(path)

    peer = found.peer("hub")
    assert peer is not None
    assert peer.url == "dir:/media/stick"
    assert found.imports.local_domains == ["example.org"]
    assert found.peer("nobody") is None


def test_settings_cannot_be_changed_after_they_were_checked():
    with pytest.raises(Exception, match="frozen"):
        Settings().node.name = "other"


def test_a_route_that_no_file_speaks_of_has_the_limits_that_deliver_assumes():
    limits = Limits()
    route = Settings().route("example.org")

    assert {name: getattr(route, name) for name in limits.__slots__} == {
        name: getattr(limits, name) for name in limits.__slots__
    }


@pytest.mark.parametrize(
    "line", ['[node]\nname = "a_b"', '[route."a_b.example"]', '[peer.x]\nurl = "dir:/m"\nroutes = ["../x"]']
)
def test_a_name_that_the_spool_would_refuse_is_refused_by_the_settings(tmp_path, line):
    with pytest.raises(Setting, match="write a host name"):
        load(written(tmp_path, line + "\n"))


def test_mail_for_a_domain_with_an_underscore_can_be_local(tmp_path):
    path = written(tmp_path, '[import]\nlocal_domains = ["My_Old.example"]\n')

    assert load(path).imports.local_domains == ["my_old.example"]
