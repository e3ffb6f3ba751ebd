"""The suite over a real sshd and rrsync: an account without our program, pushed to by one side and pulled from by the
other."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from courier.conformance import HUB_ROUTE, Conformance, Link, arrived, codes, sealed
from support import relay as relays
from support.batches import manifests, transactions
from support.debian import Unavailable, need, root, tool
from support.fragments import tree
from support.relay import Relay

from bsmtp_batch.courier import rsync_line
from bsmtp_batch.courier.contact import Terms, pull, push
from bsmtp_batch.courier.contract import Cut
from bsmtp_batch.courier.options import Options
from bsmtp_batch.courier.schemes import courier_for
from bsmtp_batch.errors import Later, Setting
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.seal import Caps, seal_route

pytestmark = pytest.mark.real
RRSYNC = "/usr/bin/rrsync"


@pytest.fixture(scope="module")
def rrsync(sshd, tmp_path_factory):
    """The script of the distribution, told where rsync is on this machine."""
    try:
        script = Path(RRSYNC) if os.path.exists(RRSYNC) else root("rsync") / RRSYNC[1:]
    except Unavailable as missing:
        need(f"rrsync: {missing}")
    made = tmp_path_factory.mktemp("rrsync") / "rrsync"
    text = script.read_text()
    assert "RSYNC = '/usr/bin/rsync'" in text
    made.write_text(text.replace("RSYNC = '/usr/bin/rsync'", f"RSYNC = {tool('rsync')!r}"))
    return made


@pytest.fixture(scope="module")
def relay(sshd):
    between = Relay(sshd.port)
    yield between
    between.close()


@pytest.fixture(autouse=True)
def _programs(sshd, monkeypatch):
    monkeypatch.setenv("BSMTP_BATCH_PATH", sshd.path)


class RsyncLink(Link):
    def __init__(self, base, sshd, relay, rrsync):
        super().__init__(base)
        self.sshd, self.relay, self.rrsync = sshd, relay, rrsync
        self.far = base / "far"
        self.far.mkdir()
        self.give_access()

    def give_access(self, *more):
        self.key = self.sshd.authorize("rrsync", sys.executable, self.rrsync, *more, self.far)

    def courier(self, path="", **more):
        self.give_access()
        options = Options(str(self.key), str(self.sshd.known_hosts), far="directory", **more)
        return courier_for(self.sshd.url("rsync", self.relay.port) + path, options)

    def push(self, spool, courier=None, **more):
        with Ledger(spool.ledger) as ledger:
            return list(push(spool.chosen([]), courier or self.courier(), ledger, **more))

    def pull(self, spool, wanted=None, courier=None):
        with Ledger(spool.ledger) as ledger:
            return list(pull(spool, wanted, courier or self.courier(), ledger))

    def hand_over(self, sender, receiver):
        return self.on_the_line(self.push, sender) + self.on_the_line(self.pull, receiver)

    def bring_receipts(self, sender, receiver):
        return self.on_the_line(self.push, sender)

    def on_the_line(self, contact, spool):
        """What happened in a contact, unless the line is cut, then or before."""
        if self.relay.fired.is_set():
            return []
        with suppress(Cut):
            return contact(spool)
        assert self.relay.fired.is_set()
        return []

    def lose_receipts(self, sender, receiver):
        shutil.rmtree(self.far)
        self.far.mkdir()

    def say(self, route, receipt):
        folder = self.far / route.name
        folder.mkdir(exist_ok=True)
        (folder / f"{receipt.name}.ack").write_bytes(receipt.to_bytes())
        return self.push(self.hub)

    @contextmanager
    def cut(self, octets):
        """So many octets beyond those of a contact in which nothing moves."""
        before = self.relay.total
        with self.courier() as empty:
            list(empty.offers([]))
        self.relay.cut(self.relay.total - before + octets)
        try:
            yield
            assert self.relay.fired.is_set()
        finally:
            self.relay.heal()
            self.relay.fired.clear()


@pytest.fixture
def link(tmp_path, sshd, relay, rrsync):
    return RsyncLink(tmp_path, sshd, relay, rrsync)


class TestRsyncDirectory(Conformance):
    stride = 59  # each step is six contacts, and each of those half a dozen sessions

    @pytest.fixture(autouse=True)
    def _rig(self, sshd, relay, rrsync):
        self.rig = (sshd, relay, rrsync)

    def fresh(self, directory):
        directory.mkdir()
        return RsyncLink(directory, *self.rig)


def test_a_cut_push_goes_on_where_it_stopped(link):
    """A few octets more than the rest are sent: those of the connection, and the checksums of what is there."""
    big(link.out, 8 << 20)
    with link.cut(6 << 20):
        link.hand_over(link.hub, link.site)
    assert files(link) == [f"{HUB_ROUTE}/NAME.json"]

    before = link.relay.up
    assert codes(link.push(link.hub)) == {0}
    assert link.relay.up - before < 4 << 20
    link.pull(link.site)

    assert arrived(link.site)


def test_a_cut_pull_goes_on_where_it_stopped(link):
    big(link.out, 8 << 20)
    link.push(link.hub)
    with link.cut(6 << 20):
        link.on_the_line(link.pull, link.site)
    assert arrived(link.site) == []

    before = link.relay.down
    assert codes(link.pull(link.site)) == {0}
    assert link.relay.down - before < 4 << 20

    assert arrived(link.site)


def big(route, octets):
    from support.fragments import put, text

    put(
        route,
        text("a@x.org", "b@x.org", body=b"".join(os.urandom(36).hex().encode() + b"\r\n" for _ in range(octets // 74))),
    )
    list(seal_route(route, node="hub", caps=Caps(), reserve_size=0))


def shown(link):
    """The names in the far directory but those that begin with a dot."""
    return [p.name for p in link.far.rglob("*") if not p.name.startswith(".")]


def files(link):
    """What is in the far directory; the one batch is called NAME. Names with a dot are in nobody's way."""
    name = manifests(link.out)[0].name
    found = [str(p.relative_to(link.far)).replace(name, "NAME") for p in link.far.rglob("*") if p.is_file()]
    return sorted(f for f in found if "/." not in f"/{f}")


def test_what_lies_there_is_what_a_directory_courier_would_have_put_there(link, tmp_path):
    from bsmtp_batch.courier.directory import Directory

    made = sealed(link.out, 2)
    link.push(link.hub)
    assert files(link) == [f"{HUB_ROUTE}/NAME", f"{HUB_ROUTE}/NAME.json"]

    with Ledger(link.site.ledger) as ledger:
        assert codes(list(pull(link.site, None, Directory(str(link.far)), ledger))) == {0}
    link.push(link.hub)

    assert arrived(link.site) == made
    assert transactions(link.out, "kept") == made
    assert shown(link) == [HUB_ROUTE]


def test_a_signature_travels_with_its_manifest(link):
    sealed(link.out, 1)
    (manifest,) = manifests(link.out)
    Path(link.out.at("ready", manifest.name + ".sig")).write_bytes(b"signed")

    link.push(link.hub)
    assert (link.far / HUB_ROUTE / f"{manifest.name}.sig").read_bytes() == b"signed"
    link.pull(link.site)
    link.push(link.hub)

    assert Path(f"{link.site.path}/in/hub/new/{manifest.name}.sig").read_bytes() == b"signed"
    assert shown(link) == [HUB_ROUTE]


def test_nothing_is_sent_twice(link):
    big(link.out, 4 << 20)
    link.push(link.hub)
    before = link.relay.total

    (event,) = link.push(link.hub)

    assert event.kind == "there already"
    assert link.relay.total - before < 100_000


def test_where_nobody_gives_receipts_a_copied_batch_is_let_go_of_and_stays_there(link):
    made = sealed(link.out, 1)

    events = link.push(link.hub, terms=Terms(receipt="copied"))

    assert [e.kind for e in events] == ["sent", "released"]
    assert transactions(link.out, "kept") == made
    assert len([p for p in link.far.rglob("*") if p.is_file()]) == 2
    assert link.push(link.hub, terms=Terms(receipt="copied")) == []
    link.pull(link.site)
    assert arrived(link.site) == made


def test_odd_names_links_and_pipes_are_named_and_not_followed(link, tmp_path):
    made = sealed(link.out, 1)
    link.push(link.hub)
    folder = link.far / HUB_ROUTE
    secret = tmp_path / "secret"
    secret.write_text("not yours")
    stem = f"{HUB_ROUTE}.00000009.20261122T053300Z.hub.bsmtp"
    (folder / "-rf.bsmtp").write_text("x")
    (folder / "a\nb|c").write_text("x")
    (folder / stem).symlink_to(secret)
    (folder / f"{stem}.json").symlink_to(secret)
    os.mkfifo(folder / stem.replace("9.", "8.", 1))
    (folder / stem.replace("9.", "7.", 1)).mkdir()
    (folder / stem.replace("9.", "7.", 1) / "deep").write_text("x")
    (link.far / "..bad").mkdir()
    (link.far / "elsewhere").symlink_to(tmp_path)
    (link.far / "Thumbs.db").write_text("x")
    (link.far / "Not A Route").mkdir()

    events = link.pull(link.site)

    assert arrived(link.site) == made
    assert len([e for e in events if e.note and e.code == 0]) >= 7
    assert all("\n" not in e.note for e in events)
    assert secret.read_text() == "not yours"


def test_a_route_that_is_a_link_there_is_not_written_through(link, tmp_path):
    sealed(link.out, 1)
    (tmp_path / "elsewhere").mkdir()
    (link.far / HUB_ROUTE).symlink_to(tmp_path / "elsewhere")

    assert codes(link.push(link.hub)) == {75}

    assert tree(tmp_path / "elsewhere") == {}


def test_another_batch_of_the_same_name_there_is_neither_replaced_nor_taken_for_ours(link):
    sealed(link.out, 1)
    link.push(link.hub)
    (file,) = link.far.rglob("*.json")
    file.write_bytes(b"somebody else's")
    before = tree(link.far)

    assert codes(link.push(link.hub)) == {65}

    assert tree(link.far) == before


def test_a_half_copied_batch_there_is_left_for_later(link):
    made = sealed(link.out, 3)
    link.push(link.hub)
    (file,) = link.far.rglob("*.bsmtp")
    whole = file.read_bytes()
    for part in (b"", whole[:-1], whole + b"x"):
        file.write_bytes(part)
        assert codes(link.pull(link.site)) == {75}
        assert arrived(link.site) == []
        assert not list(link.far.rglob("*.ack"))

    file.write_bytes(whole)
    link.pull(link.site)

    assert arrived(link.site) == made


def test_a_batch_that_grows_while_it_is_fetched_is_refused(link, monkeypatch):
    sealed(link.out, 3)
    link.push(link.hub)
    (file,) = link.far.rglob("*.bsmtp")
    real = rsync_line.RsyncLine.listing

    def listing(self):
        found = real(self)
        file.write_bytes(file.read_bytes() * 1000)
        return found

    monkeypatch.setattr(rsync_line.RsyncLine, "listing", listing)

    assert codes(link.pull(link.site)) == {65}
    assert arrived(link.site) == []
    assert all(p.stat().st_size < 10_000 for p in Path(link.site.path).rglob("*.bsmtp*"))


def test_a_manifest_beyond_all_measure_is_not_brought(link):
    sealed(link.out, 1)
    link.push(link.hub)
    (file,) = link.far.rglob("*.json")
    file.write_bytes(bytes(5 << 20))
    before = link.relay.down

    assert codes(link.pull(link.site)) == {65}

    assert link.relay.down - before < 100_000


def test_a_directory_with_too_many_files_is_refused(link, monkeypatch):
    sealed(link.out, 1)
    link.push(link.hub)
    monkeypatch.setattr(rsync_line, "MOST", 20)
    for number in range(50):
        (link.far / HUB_ROUTE / f"x{number}").touch()

    with pytest.raises(Cut, match="more than 20 files"):
        link.pull(link.site)


def test_a_far_side_that_sends_more_than_it_listed_is_refused(link, monkeypatch):
    sealed(link.out, 1)
    link.push(link.hub)
    real = rsync_line.RsyncLine.fetch_small

    def more(self, names, into, cap):
        real(self, names, into, cap)
        Path(into, HUB_ROUTE, "more.json").write_text("x")

    monkeypatch.setattr(rsync_line.RsyncLine, "fetch_small", more)

    with pytest.raises(Cut, match="something else than it had listed"):
        link.pull(link.site)


def test_a_batch_that_rotted_in_ready_does_not_get_its_name_there(link):
    sealed(link.out, 1)
    path = Path(link.out.at("ready", manifests(link.out)[0].name))
    path.write_bytes(path.read_bytes().replace(b"Subject", b"Sbuject"))

    assert codes(link.push(link.hub)) == {65}

    assert not list(link.far.rglob("*.bsmtp"))


def test_an_account_that_may_only_read_takes_nothing_and_nothing_is_lost(link, monkeypatch):
    made = sealed(link.out, 1)
    link.push(link.hub)
    monkeypatch.setattr(link, "give_access", lambda: RsyncLink.give_access(link, "-ro"))

    events = link.pull(link.site)

    assert [e.kind for e in events] == ["arrived", "later"]
    assert "sending to read-only server is not allowed" in events[1].note
    assert arrived(link.site) == made


def test_a_directory_that_is_not_there_or_is_outside_is_said_so(link, tmp_path):
    for path in ("none/", "site.example"):
        with pytest.raises(Setting, match="cannot be listed"):
            link.pull(link.site, courier=link.courier(path))


def test_a_directory_below_the_account_s_own_is_used_by_its_path(link):
    (link.far / "mail").mkdir()
    made = sealed(link.out, 1)

    link.push(link.hub, courier=link.courier("mail/"))
    link.pull(link.site, courier=link.courier("mail"))

    assert len(list((link.far / "mail" / HUB_ROUTE).iterdir())) == 3
    assert arrived(link.site) == made


def test_a_key_that_is_not_known_there_and_a_host_that_is_not_known_here(link, tmp_path, sshd):
    options = {"far": "directory", "identity": str(link.key)}
    (tmp_path / "known").write_text("")
    stranger = courier_for(sshd.url("rsync"), Options(known_hosts=str(tmp_path / "known"), **options))
    with pytest.raises(Setting, match="host key"):
        link.pull(link.site, courier=stranger)

    from support.sshd import make_key

    options["identity"] = str(make_key(tmp_path / "other"))
    unknown = courier_for(sshd.url("rsync"), Options(known_hosts=str(sshd.known_hosts), **options))
    with pytest.raises(Setting, match="does not let us in"):
        link.pull(link.site, courier=unknown)


@pytest.mark.parametrize("contact", ["push", "pull", "bring"])
def test_a_line_cut_anywhere_ends_the_contact_and_the_next_one_finishes(link, contact):
    """Also while the image is made, receipts are written and what was acknowledged is removed."""
    steps = {"push": lambda: link.push(link.hub), "pull": lambda: link.pull(link.site)}
    steps["bring"] = steps["push"]
    before, size = list(steps)[: list(steps).index(contact)], 0
    for number, tenths in enumerate((None, 5, 9), 1):
        sealed(link.out, 1, first=number)
        for name in before:
            steps[name]()
        start = link.relay.total
        if tenths is not None:
            link.relay.cut(size * tenths // 10, relays.CLOSE)
        with suppress(Cut):
            steps[contact]()
        size = size or link.relay.total - start
        link.relay.heal()
        link.relay.fired.clear()
        link.carry(link.hub, link.site)
        assert tree(link.out.at("ready")) == {}

    assert len(arrived(link.site)) == 3
    assert shown(link) == [HUB_ROUTE]


@pytest.fixture
def taken(link):
    """The far directory as a session of another contact holds it."""
    held = os.open(link.far, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    yield held
    os.close(held)


def test_a_session_that_has_not_noticed_its_end_is_waited_for(link, taken, monkeypatch):
    waited = []

    def wait(seconds):
        waited.append(seconds)
        fcntl.flock(taken, fcntl.LOCK_UN)

    monkeypatch.setattr(rsync_line, "sleep", wait)
    made = sealed(link.out, 1)
    link.push(link.hub)
    link.pull(link.site)

    assert waited
    assert arrived(link.site) == made


def test_a_directory_in_use_is_no_fault_of_the_settings(link, taken, monkeypatch):
    monkeypatch.setattr(rsync_line, "BUSY", 0)
    sealed(link.out, 1)
    before = tree(link.out.at("ready"))
    with pytest.raises(Later, match="another contact is using the directory") as told:
        link.push(link.hub)

    assert told.value.code == 75
    assert tree(link.out.at("ready")) == before
    assert tree(link.far) == {}


def test_a_tick_that_ends_the_contact_ends_rsync_too(link):
    class Over(Exception):
        pass

    def moved(_):
        raise Over

    sealed(link.out, 1)
    from bsmtp_batch.handover import outgoing

    with link.out.contact():
        (parcel,) = outgoing.ready(link.out)
    with link.courier() as courier, pytest.raises(Over):
        courier.send(parcel, link.out.at("ready", parcel.name), moved)

    assert not list(link.far.rglob("*.bsmtp"))


def test_an_account_with_a_shell_and_without_rrsync_will_do(link, sshd):
    """The path of the URL is then that of the far machine."""
    script = f'PATH={sshd.path} && eval "$SSH_ORIGINAL_COMMAND"'
    link.give_access = lambda: setattr(link, "key", sshd.authorize("shell", "/bin/sh", "-c", script))
    made = sealed(link.out, 1)
    path = f"{link.far}/"[1:]

    for contact, spool in ((link.push, link.hub), (link.pull, link.site), (link.push, link.hub)):
        assert codes(contact(spool, courier=link.courier(path))) == {0}

    assert arrived(link.site) == made
    assert transactions(link.out, "kept") == made
    assert shown(link) == [HUB_ROUTE]


def test_a_peer_of_the_settings_is_used_by_its_name(link, tmp_path):
    made = sealed(link.out, 1)
    settings = tmp_path / "settings.toml"
    settings.write_text(f"""\
[peer.drop]
url = "{link.sshd.url("rsync", link.relay.port)}"
far = "directory"
identity = "{link.key}"
known_hosts = "{link.sshd.known_hosts}"
""")
    said = []
    for verb, spool in (("push", link.hub), ("pull", link.site), ("push", link.hub)):
        command = [sys.executable, "-m", "bsmtp_batch", verb, "--config", settings, "--spool", spool.path, "drop"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        said.append(done.stdout)

    assert "waits for a receipt" in said[0]
    assert "acknowledged" in said[2]
    assert arrived(link.site) == made


def test_no_shell_of_ours_is_started_and_no_word_comes_from_mail(link, monkeypatch):
    from bsmtp_batch.edge import process

    started = []
    real = process.subprocess.Popen

    def popen(argv, **options):
        started.append((argv, options.get("shell", False)))
        return real(argv, **options)

    monkeypatch.setattr(process.subprocess, "Popen", popen)
    sealed(link.out, 1)
    link.push(link.hub)

    assert {argv[0] for argv, _ in started} == {"ssh", "rsync"}
    assert not any(shell for _, shell in started)
    for argv, _ in started:
        operands = argv[argv.index("--") + 1 :]
        assert all(not word.startswith("-") for word in operands)
        assert not any("example.net" in word or "example.org" in word for word in argv)
