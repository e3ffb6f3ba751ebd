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
        f'  {path}:10:1: peer.other.url: begin with the scheme: "dir:/media/stick", "scp://user@host/",'
        ' "rsync://user@host/", "smtp://[host]:25" or "odmr://user@host/"',
        f'  {path}:12:1: import.to: begin with the scheme: "smtp://127.0.0.1:25", "maildir:/path"',
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


GOOD_URLS = [
    "dir:/media/stick",
    "scp://mail@hub.example/",
    "scp://mail@hub.example",
    "scp://hub-by-its-name-in-ssh_config/",
    "rsync://_bsmtp@192.0.2.1:2222/",
    "scp://a-b.c_d@[2001:db8::1]:22/",
]
BAD_URLS = [
    "scp:user@host/",
    "scp:/user@host/",
    "scp://-oProxyCommand=x@host/",
    "scp://user@-host/",
    "scp://user@ho st/",
    "scp://user@host;id/",
    "scp://us$(id)er@host/",
    "scp://user@host:0/",
    "scp://user@host:65536/",
    "scp://user@host:22x/",
    "scp://user@host:/",
    "scp://user@2001:db8::1/",
    "scp://user@[2001:db8::1/",
    "scp://user@[fe80::1%eth0]/",
    "scp://user@[::::]/",
    "scp://user:secret@host/",
    "scp://user@host\\n/",
    "scp://user@h%68st/",
    "rsync://user@host/../x/",
    "rsync://user@host/-e/",
    "rsync://user@host//",
    "rsync://üser@host/",
    "dir:media",
    "dir:",
    "ftp://user@host/",
    "hub",
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_url_of_a_courier_is_taken(tmp_path, url):
    assert load(written(tmp_path, f'[peer.hub]\nurl = "{url}"\n')).peers["hub"].url == url


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_could_mean_something_else_to_ssh_is_refused_where_it_stands(tmp_path, url):
    path = written(tmp_path, f'[peer.hub]\nurl = "{url}"\nfar = "directory"\n')

    with pytest.raises(Setting) as caught:
        load(path)

    told = str(caught.value).splitlines()[1]
    assert told.startswith(f"  {path}:2:1: peer.hub.url: "), told
    assert len(str(caught.value).splitlines()) == 3, "one mistake is told once"


def test_a_peer_has_everything_that_ssh_and_a_bounded_contact_need(tmp_path):
    path = written(
        tmp_path,
        '[node]\nsigning_key = "/k/sign"\nallowed_signers = "/k/signers"\n'
        '[peer.hub]\nurl = "rsync://mail@hub.example:2222/"\nidentity = "/k/id"\nknown_hosts = "/k/known"\n'
        'compression = "zstd"\nsignature = "required"\nwindow = "22:30-06:00"\nmax_bytes = "50M"\n'
        '[peer.plain]\nurl = "rsync://mail@hub.example/srv/mail/"\nfar = "directory"\nreceipt = "copied"\n'
        '[peer."site.example"]\nallowed_signers = "/k/site"\n',
    )

    found = load(path)

    hub, plain, site = (found.peers[name] for name in ("hub", "plain", "site.example"))
    assert (hub.identity, hub.known_hosts, hub.compression, hub.far) == ("/k/id", "/k/known", "zstd", "receive")
    assert (hub.signature, hub.receipt, hub.window, hub.max_bytes) == ("required", "ack", "22:30-06:00", 50_000_000)
    assert (plain.far, plain.receipt, plain.max_bytes, plain.window) == ("directory", "copied", 0, "")
    assert (site.url, site.allowed_signers, site.signature) == ("", "/k/site", "optional")
    assert (found.node.signing_key, found.node.allowed_signers) == ("/k/sign", "/k/signers")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('url = "dir:/m"\nidentity = "/k"', "3:1: peer.x.identity: leave this out"),
        ('url = "dir:/m"\nknown_hosts = "/k"', "3:1: peer.x.known_hosts: leave this out"),
        ('url = "dir:/m"\ncompression = "gzip"', "3:1: peer.x.compression: leave this out"),
        ('identity = "/k"', "2:1: peer.x.identity: leave this out, or set url"),
        ('url = "scp://u@h/"\nfar = "directory"', "3:1: peer.x.far: only rsync:// can"),
        ('url = "dir:/m"\nfar = "directory"', "3:1: peer.x.far: only rsync:// can"),
        (
            'url = "rsync://u@h/"\nfar = "directory"\ncompression = "xz"',
            "4:1: peer.x.compression: leave this out: in an account",
        ),
        ('url = "rsync://u@h/"\nreceipt = "copied"', "3:1: peer.x.receipt: leave this out"),
        ('far = "receive"\nurl = "rsync://u@h/srv/"', "3:1: peer.x.url: end it after the host"),
        ('url = "dir:/m"\nsignature = "required"', "3:1: peer.x.signature: name the file with the keys"),
        ('url = "scp://u@h/"\nidentity = "id"', "3:1: peer.x.identity: write the whole path"),
        ('url = "scp://u@h/"\nidentity = "/k/"', "3:1: peer.x.identity: write the whole path"),
        ('url = "scp://u@h/"\nidentity = "/k/-i"', "3:1: peer.x.identity: rename the file"),
        ('url = "scp://u@h/"\nidentity = "/k/../i"', "3:1: peer.x.identity: rename the file"),
        ('url = "scp://u@h/"\nknown_hosts = "/%h/k"', "3:1: peer.x.known_hosts: rename the file"),
        ('url = "scp://u@h/"\nknown_hosts = "/a\\nb"', "3:1: peer.x.known_hosts: write one line of text"),
        ('allowed_signers = "/$HOME/k"', "2:1: peer.x.allowed_signers: rename the file"),
        ('window = "2:00-5:00"', "2:1: peer.x.window: write two times of day"),
        ('window = "02:00-24:00"', "2:1: peer.x.window: write two times of day"),
        ('window = "02:00-02:00"', "2:1: peer.x.window: write two times of day"),
        ('window = "02:00-05:00\\n"', "2:1: peer.x.window: write two times of day"),
        ('max_bytes = "50 MiB"', "2:1: peer.x.max_bytes: write a number of octets"),
        ("max_bytes = -1", "2:1: peer.x.max_bytes: write 0 or a number above it"),
        ('compression = "bzip2"', "2:1: peer.x.compression: write 'none', 'gzip', 'xz' or 'zstd'"),
    ],
)
def test_what_makes_no_sense_together_is_refused_and_says_what_to_do(tmp_path, lines, told):
    path = written(tmp_path, f"[peer.x]\n{lines}\n")

    with pytest.raises(Setting) as caught:
        load(path)

    assert [line for line in str(caught.value).splitlines() if line.startswith(f"  {path}:{told}")], caught.value


def test_a_mistake_in_each_of_two_peers_is_told_at_once(tmp_path):
    path = written(
        tmp_path, '[peer.a]\nurl = "dir:/m"\nidentity = "/k"\n[peer.b]\nurl = "scp://u@h/"\nfar = "directory"\n'
    )

    with pytest.raises(Setting) as caught:
        load(path)

    assert f"{path}:3:1" in str(caught.value)
    assert f"{path}:6:1" in str(caught.value)


def test_a_schedule_that_nobody_would_keep_is_a_fault(tmp_path):
    """`serve` pushes to smtp:// peers only; a site that believes its stick is pushed by itself would wait for ever."""
    file = tmp_path / "c.toml"
    file.write_text('[peer.stick]\nurl = "dir:/media/stick"\nschedule = "10m"\nknocks = ["192.0.2.7"]\n')

    with pytest.raises(Setting) as refused:
        load(str(file))

    assert str(refused.value).count("to no other") == 2
