"""Import as a whole: what a run leaves behind, and what the next one does with it."""

from __future__ import annotations

import email
import email.policy
import gzip
import os
from pathlib import Path

import pytest
from support.importing import NODE, Letter, Notebook, arrive, batch, ledger, letters, manifest, names, run
from support.sink import DROP, Data, EndOfData, MailFrom, RcptTo, Sink

from bsmtp_batch.batch.events import Severity
from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.edge.user import user_name
from bsmtp_batch.errors import Setting, Usage
from bsmtp_batch.importer import inbox, stage
from bsmtp_batch.importer.one import Options
from bsmtp_batch.importer.policy import Policy
from bsmtp_batch.replay import address, aside, engine, examine, targets
from bsmtp_batch.wire.events import Reply
from bsmtp_batch.wire.session import Protocol

NO_USER = Reply(550, b"5.1.1", b"no such user here")
BUSY = Reply(451, b"4.3.0", b"try again later")


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def x(tmp_path):
    """A batch of three messages as a file."""
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch(letters(3)))
    return path


def refuse(*users, reply=NO_USER, on=RcptTo):
    """An answer that refuses some users."""

    def answer(asked):
        rcpt = asked.rcpt if on is EndOfData else getattr(asked.request, "rcpt", None)
        if isinstance(asked.request, on) and rcpt and rcpt.path.split(b"@")[0] in users:
            return reply
        return None

    return answer


def nth_dot(number, what):
    return lambda asked: what if isinstance(asked.request, EndOfData) and asked.messages == number else None


def origin(spool, directory, name="hub.example"):
    return spool / "in" / name / directory


def messages_in(path):
    with path.open("rb") as file:
        return list(BatchFile(file).scan(Severity.STRICT))


# -- once, and only once ----------------------------------------------------------------------------------------------


def test_the_same_batch_twice_is_skipped(spool, x):
    with Sink() as sink:
        first = run(spool, sink.url, x)
        second = run(spool, sink.url, x)

    assert (first.code, first.outcomes) == (0, ["delivered"] * 3)
    assert (second.code, second.outcomes) == (0, ["skipped"] * 3)
    assert [one.content for one in sink.taken] == [one.content for one in letters(3)]


def test_the_same_batch_under_another_name_or_compressed_is_skipped(spool, x, tmp_path):
    other = tmp_path / "y.bsmtp.gz"
    other.write_bytes(gzip.compress(x.read_bytes()))
    with Sink() as sink:
        run(spool, sink.url, x)
        again = run(spool, sink.url, other)

    assert again.outcomes == ["skipped"] * 3
    assert len(sink.taken) == 3


def test_the_same_batch_from_two_couriers_is_imported_once(spool):
    arrive(spool, letters(2), origin="hub.example")
    arrive(spool, letters(2), origin="stick.example")
    with Sink() as sink:
        result = run(spool, sink.url)

    assert (result.code, result.outcomes) == (0, ["delivered"] * 2 + ["skipped"] * 2)
    assert len(sink.taken) == 2
    assert len(names(origin(spool, "done", "stick.example"))) == 2


def test_everything_goes_over_one_connection(spool, x):
    with Sink() as sink:
        run(spool, sink.url, x)

    assert sink.connections == 1


def test_a_lost_connection_after_the_dot_is_named_and_repeated_once(spool, x):
    with Sink(nth_dot(2, DROP)) as sink:
        first = run(spool, sink.url, x)
        assert first.outcomes == ["delivered", "deferred", "delivered"]
        assert first.code == 75
        with ledger(spool) as book:
            assert [message for _, message in book.in_doubt()] == [2]
        sink.answer = lambda asked: None
        second = run(spool, sink.url, x)

    assert second.said("message 2 was in doubt")
    assert (second.code, second.of(2)) == (0, {b"c@site.example": "delivered"})
    texts = [one.content for one in sink.taken]
    assert [texts.count(one.content) for one in letters(3)] == [1, 2, 1]
    with ledger(spool) as book:
        assert book.in_doubt() == []


def test_a_doubt_stays_named_until_the_message_is_through(spool, x):
    with Sink(nth_dot(1, DROP)) as sink:
        run(spool, sink.url, x)
        sink.answer = lambda asked: BUSY if isinstance(asked.request, MailFrom) else None
        run(spool, sink.url, x)
        with ledger(spool) as book:
            assert [message for _, message in book.in_doubt()] == [1]
        sink.answer = lambda asked: None
        assert run(spool, sink.url, x).said("in doubt")


def test_outcomes_of_a_run_that_breaks_off_are_kept(spool, x, monkeypatch):
    def broken(self, message):
        if message.number == 3:
            raise OSError(5, "Input/output error")
        yield from original(self, message)

    original = BatchFile.wire
    with Sink() as sink:
        monkeypatch.setattr(BatchFile, "wire", broken)
        first = run(spool, sink.url, x)
        monkeypatch.undo()
        second = run(spool, sink.url, x)

    assert first.code == 75
    assert first.said("Input/output error")
    assert second.outcomes == ["skipped", "skipped", "delivered"]
    assert len(sink.taken) == 3


# -- put off ----------------------------------------------------------------------------------------------------------


def test_mixed_verdicts_for_forty_recipients_are_settled_one_by_one(spool, tmp_path):
    users = [b"u%02d" % n for n in range(40)]
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=tuple(user + b"@site.example" for user in users))]))

    def answer(asked):
        number = (
            int(asked.request.rcpt.path[1:3])
            if isinstance(asked.request, RcptTo) and asked.request.rcpt.path[:1] == b"u"
            else 0
        )
        return BUSY if number % 3 == 1 else NO_USER if number % 3 == 2 else None

    with Sink(answer) as sink:
        first = run(spool, sink.url, path)
        sink.answer = lambda asked: None
        second = run(spool, sink.url, path)

    assert [first.outcomes.count(what) for what in ("delivered", "deferred", "bounced")] == [14, 13, 13]
    assert first.code == 75
    assert [second.outcomes.count(what) for what in ("delivered", "skipped")] == [13, 27]
    assert second.code == 0
    given = [to for one in sink.taken if one.mail.path for to in one.to]
    assert sorted(given) == sorted(user + b"@site.example" for user in users if int(user[1:]) % 3 != 2)
    [notice] = [one for one in sink.taken if not one.mail.path]
    assert notice.content.count(b"Final-Recipient:") == 13


def test_lmtp_verdicts_after_the_dot_are_settled_one_by_one(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"a@site.example", b"b@site.example", b"c@site.example"))]))
    with Sink(refuse(b"b", reply=BUSY, on=EndOfData), protocol=Protocol.LMTP) as sink:
        first = run(spool, sink.url, path)
        sink.answer = lambda asked: None
        second = run(spool, sink.url, path)

    assert first.outcomes == ["delivered", "deferred", "delivered"]
    assert [one.to for one in sink.taken] == [
        [b"a@site.example", b"b@site.example", b"c@site.example"],
        [b"b@site.example"],
    ]
    assert second.code == 0


def test_a_deferred_message_does_not_hold_up_the_next(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"busy@site.example",)), Letter()]))
    with Sink(refuse(b"busy", reply=BUSY)) as sink:
        result = run(spool, sink.url, path)

    assert (result.code, result.outcomes) == (75, ["deferred", "delivered"])


def test_a_target_that_is_away_leaves_everything(spool, x):
    result = run(spool, "smtp://127.0.0.1:1", x)

    assert (result.code, result.outcomes) == (75, ["deferred"] * 3)
    assert result.said("cannot be reached")
    assert x.exists()


def test_a_target_that_is_away_is_tried_once_for_all_batches(spool, monkeypatch):
    for sequence in range(1, 6):
        arrive(spool, letters(sequence)[-1:], sequence=sequence)
    tried = []
    original = targets.connect_tcp

    def counted(*arguments):
        tried.append(1)
        return original(*arguments)

    monkeypatch.setattr(targets, "connect_tcp", counted)
    result = run(spool, "smtp://127.0.0.1:1")

    assert (result.code, result.outcomes, len(tried)) == (75, ["deferred"] * 5, 1)
    assert sum("cannot be reached" in trouble for trouble in result.troubles) == 1
    assert len(names(origin(spool, "work"))) == 10


def test_a_connection_left_alone_too_long_is_replaced(spool, x, monkeypatch):
    monkeypatch.setattr(engine, "IDLE", -1.0)
    with Sink() as sink:
        result = run(spool, sink.url, x)

    assert (result.code, sink.connections, len(sink.taken)) == (0, 3, 3)


def test_several_batches_go_over_one_connection(spool):
    for sequence in range(1, 4):
        arrive(spool, letters(sequence)[-1:], sequence=sequence)
    with Sink() as sink:
        run(spool, sink.url)

    assert (sink.connections, len(sink.taken)) == (1, 3)


def test_a_target_that_asks_to_be_left_alone_is(spool, x):
    with Sink(nth_dot(2, Reply(421, b"4.3.2", b"going down"))) as sink:
        result = run(spool, sink.url, x)

    assert result.code == 75
    assert result.outcomes == ["delivered", "deferred", "deferred"]
    assert sink.connections == 1


def test_a_target_that_keeps_dropping_the_line_is_given_up(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch(letters(10)))
    with Sink(lambda asked: DROP if isinstance(asked.request, Data) else None) as sink:
        result = run(spool, sink.url, path)

    assert (result.code, result.outcomes) == (75, ["deferred"] * 10)
    assert sink.connections == 3


def test_one_message_that_makes_the_server_drop_the_line_costs_only_itself(spool, x):
    with Sink(lambda asked: DROP if isinstance(asked.request, Data) and asked.connection == 1 else None) as sink:
        result = run(spool, sink.url, x)

    assert result.outcomes == ["deferred", "delivered", "delivered"]
    assert sink.connections == 2


def test_too_many_recipients_for_one_transaction_are_sent_in_several(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=tuple(b"u%d@site.example" % n for n in range(9)))]))
    count = [0]

    def answer(asked):
        count[0] = 0 if isinstance(asked.request, MailFrom) else count[0] + isinstance(asked.request, RcptTo)
        crowded = isinstance(asked.request, RcptTo) and count[0] > 4
        return Reply(452, b"4.5.3", b"too many recipients") if crowded else None

    with Sink(answer) as sink:
        result = run(spool, sink.url, path)

    assert (result.code, result.outcomes) == (0, ["delivered"] * 9)
    assert [len(one.to) for one in sink.taken] == [4, 4, 1]


def test_a_doubt_outlasts_the_recipients_that_were_too_many(spool, tmp_path):
    """LMTP: one is taken, the line breaks before the answer about the second, and the third has its turn afterwards."""
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"a@site.example", b"b@site.example", b"c@site.example"))]))

    def answer(asked):
        first = asked.connection == 1
        if isinstance(asked.request, RcptTo) and asked.request.rcpt.path[:1] == b"c" and first:
            return Reply(452, b"4.5.3", b"too many recipients")
        if isinstance(asked.request, EndOfData) and asked.rcpt.path[:1] == b"b" and first:
            return DROP
        return None

    with Sink(answer, protocol=Protocol.LMTP) as sink:
        result = run(spool, sink.url, path)

    assert result.outcomes == ["delivered", "deferred", "delivered"]
    with ledger(spool) as book:
        assert [number for _, number in book.in_doubt()] == [1]


# -- refused ----------------------------------------------------------------------------------------------------------


def test_a_refusal_goes_back_to_the_sender_once(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    sent = Letter(
        sender=b"<a@hub.example> ENVID=id7",
        to=(b"gone@site.example",),
        content=b"Subject: hi\r\nX: y\r\n\r\nsecret\r\n",
    )
    path.write_bytes(batch([sent]))
    with Sink(refuse(b"gone")) as sink:
        first = run(spool, sink.url, path)
        second = run(spool, sink.url, path)

    assert (first.code, first.outcomes) == (0, ["bounced"])
    assert (second.code, second.outcomes) == (0, ["skipped"])
    [notice] = sink.taken
    assert (notice.mail.path, notice.to) == (b"", [b"a@hub.example"])
    message = email.message_from_bytes(notice.content, policy=email.policy.SMTP)
    assert message.get_content_type() == "multipart/report"
    assert b"secret" not in notice.content
    assert b"550 5.1.1 no such user here" in notice.content
    assert b"Original-Envelope-Id: id7" in notice.content


def test_a_null_sender_is_never_answered(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(sender=b"", to=(b"gone@site.example",))]))
    with Sink(refuse(b"gone")) as sink:
        result = run(spool, sink.url, path)
        again = run(spool, sink.url, path)

    assert sink.taken == []
    assert (result.code, result.outcomes) == (65, ["quarantined"])
    assert (again.code, again.outcomes) == (0, ["skipped"])
    kept, reason = names(origin(spool, "bad", "local"))
    [message] = messages_in(origin(spool, "bad", "local") / kept)
    assert (message.mail.path, message.rcpts[0].path) == (b"", b"gone@site.example")
    assert "no such user" in (origin(spool, "bad", "local") / reason).read_text()


def test_a_sender_who_asked_for_silence_gets_it(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"<gone@site.example> NOTIFY=NEVER",))]))
    with Sink(refuse(b"gone")) as sink:
        result = run(spool, sink.url, path)

    assert (result.code, result.outcomes, sink.taken) == (0, ["bounced"], [])


def test_where_refusals_are_only_kept_nobody_is_told(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"gone@site.example", b"c@site.example"))]))
    with Sink(refuse(b"gone")) as sink:
        result = run(spool, sink.url, path, bounce=False)

    assert (result.code, result.outcomes) == (65, ["quarantined", "delivered"])
    assert [one.mail.path for one in sink.taken] == [b"a@hub.example"]


def test_a_report_put_off_is_sent_by_the_next_run(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"gone@site.example",))]))

    def answer(asked):
        if isinstance(asked.request, MailFrom) and not asked.request.mail.path:
            return BUSY
        return refuse(b"gone")(asked)

    with Sink(answer) as sink:
        first = run(spool, sink.url, path)
        assert (first.code, sink.taken) == (75, [])
        sink.answer = refuse(b"gone")
        second = run(spool, sink.url, path)
        third = run(spool, sink.url, path)

    assert (second.code, third.code, len(sink.taken)) == (0, 0, 1)


def test_a_report_sent_twice_has_one_message_id(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"gone@site.example",))]))

    def answer(asked):
        return DROP if isinstance(asked.request, EndOfData) else refuse(b"gone")(asked)

    with Sink(answer) as sink:
        run(spool, sink.url, path)
        sink.answer = refuse(b"gone")
        run(spool, sink.url, path)

    first, second = [email.message_from_bytes(one.content)["Message-ID"] for one in sink.taken]
    assert first == second


def test_a_report_nobody_takes_leaves_the_message_in_bad(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(sender=b"nobody@hub.example", to=(b"gone@site.example",))]))
    with Sink(refuse(b"gone", b"nobody")) as sink:
        result = run(spool, sink.url, path)
        again = run(spool, sink.url, path)

    assert (result.code, again.code, sink.taken) == (65, 0, [])
    assert any("unreturnable" in name for name in names(origin(spool, "bad", "local")))
    with ledger(spool) as book:
        assert len(book.set_aside()) == 1


def test_refusals_of_two_runs_give_two_reports(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"one@site.example", b"two@site.example"))]))

    def answer(asked):
        return refuse(b"one")(asked) or refuse(b"two", reply=BUSY)(asked)

    with Sink(answer) as sink:
        run(spool, sink.url, path)
        sink.answer = refuse(b"two")
        run(spool, sink.url, path)

    ids = {email.message_from_bytes(one.content)["Message-ID"] for one in sink.taken}
    assert len(ids) == len(sink.taken) == 2
    assert b"two@site" not in sink.taken[0].content
    assert b"one@site" not in sink.taken[1].content.partition(b"rfc822-headers")[0].replace(b"c@site", b"")


def test_eight_bit_text_for_a_seven_bit_server_goes_back(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(content="Subject: ü\r\n\r\n".encode()), Letter()]))
    with Sink(offers=b"PIPELINING") as sink:
        result = run(spool, sink.url, path)

    assert result.outcomes == ["bounced", "delivered"]
    assert b"5.6.3" in sink.taken[1].content
    assert sink.taken[1].content.isascii()


# -- whose mail is taken ----------------------------------------------------------------------------------------------


def test_a_foreign_recipient_is_set_aside_and_the_rest_goes_on(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(
        batch([Letter(to=(b"c@site.example", b"x@evil.example", b"x%evil.example@site.example")), Letter()])
    )
    with Sink() as sink:
        first = run(spool, sink.url, path, domains=["site.example"])
        second = run(spool, sink.url, path, domains=["site.example"])

    assert first.code == 65
    assert first.of(1) == {
        b"c@site.example": "delivered",
        b"x@evil.example": "quarantined",
        b"x%evil.example@site.example": "quarantined",
    }
    assert [one.to for one in sink.taken] == [[b"c@site.example"]] * 2
    assert (second.code, second.outcomes) == (0, ["skipped"] * 4)
    kept = [name for name in names(origin(spool, "bad", "local")) if not name.endswith(".reason")]
    [message] = messages_in(origin(spool, "bad", "local") / kept[0])
    assert [rcpt.path for rcpt in message.rcpts] == [b"x@evil.example", b"x%evil.example@site.example"]


def test_without_local_domains_it_is_said_that_all_are_taken(spool, x):
    with Sink() as sink:
        assert run(spool, sink.url, x).said("every recipient is taken")


# -- bad files and bad messages ---------------------------------------------------------------------------------------


def test_a_batch_cut_anywhere_sends_nothing(spool):
    found = letters(2)
    path = arrive(spool, found)
    octets = path.read_bytes()
    said = path.with_name(path.name + ".json").read_bytes()
    path.unlink()
    path.with_name(path.name + ".json").unlink()
    with Sink() as sink:
        for cut in range(0, len(octets), 7):
            path.write_bytes(octets[:cut])
            path.with_name(path.name + ".json").write_bytes(said)
            result = run(spool, sink.url)
            assert result.code == 65, cut
            assert (origin(spool, "bad") / f"{path.name}.reason").read_text().strip()
    assert sink.taken == []


def test_every_changed_octet_sends_nothing(spool):
    path = arrive(spool, letters(1))
    octets = path.read_bytes()
    said = path.with_name(path.name + ".json").read_bytes()
    with Sink() as sink:
        for place in range(0, len(octets), 5):
            path.write_bytes(octets[:place] + bytes([octets[place] ^ 1]) + octets[place + 1 :])
            path.with_name(path.name + ".json").write_bytes(said)
            assert run(spool, sink.url).code == 65, place
    assert sink.taken == []


def test_a_message_smuggled_in_is_noticed_by_the_manifest(spool):
    path = arrive(spool, letters(1))
    path.write_bytes(batch(letters(2)))
    with Sink() as sink:
        result = run(spool, sink.url)

    assert (result.code, sink.taken) == (65, [])
    assert sorted(names(origin(spool, "bad"))) == sorted([path.name, path.name + ".json", path.name + ".reason"])


def test_a_manifest_that_is_none_keeps_its_batch_back(spool):
    path = arrive(spool, letters(1))
    path.with_name(path.name + ".json").write_bytes(b"{}")
    with Sink() as sink:
        result = run(spool, sink.url)

    assert (result.code, sink.taken) == (65, [])
    assert not path.exists()
    assert (origin(spool, "bad") / path.name).exists()


def test_a_bad_file_named_is_copied_to_bad_and_stays(spool, x):
    x.write_bytes(x.read_bytes()[:-20])
    with Sink() as sink:
        result = run(spool, sink.url, x)

    assert (result.code, sink.taken) == (65, [])
    assert result.said("nothing was sent")
    assert result.said("--salvage")
    kept, reason = names(origin(spool, "bad", "local"))
    assert (origin(spool, "bad", "local") / kept).read_bytes() == x.read_bytes()
    assert "message" in (origin(spool, "bad", "local") / reason).read_text()


def test_a_file_compressed_twice_or_cut_in_compression_is_bad(spool, x, tmp_path):
    twice = tmp_path / "twice.bsmtp.gz"
    twice.write_bytes(gzip.compress(gzip.compress(x.read_bytes())))
    cut = tmp_path / "cut.bsmtp.gz"
    cut.write_bytes(gzip.compress(x.read_bytes())[:-12])
    with Sink() as sink:
        result = run(spool, sink.url, twice, cut)

    assert (result.code, sink.taken) == (65, [])
    assert len(names(origin(spool, "bad", "local"))) == 4


def test_salvage_takes_the_complete_messages(spool, x):
    x.write_bytes(x.read_bytes()[:-20])
    with Sink() as sink:
        result = run(spool, sink.url, x, salvage=True)
        again = run(spool, sink.url, x, salvage=True)

    assert (result.code, result.outcomes) == (65, ["delivered"] * 2)
    assert (again.code, again.outcomes) == (65, ["skipped"] * 2)
    assert [one.content for one in sink.taken] == [one.content for one in letters(2)]


def test_what_a_salvage_leaves_over_is_taken_up_by_the_next_run(spool):
    path = arrive(spool, letters(3))
    path.with_name(path.name + ".json").unlink()
    path.write_bytes(path.read_bytes()[:-20])
    with Sink(nth_dot(2, BUSY)) as sink:
        first = run(spool, sink.url, salvage=True)
        assert (first.code, names(origin(spool, "work"))) == (75, [path.name])
        sink.answer = lambda asked: None
        second = run(spool, sink.url)

    assert (second.code, second.outcomes) == (65, ["skipped", "delivered"])
    assert names(origin(spool, "bad")) == [path.name, path.name + ".reason"]


def test_salvage_never_overrules_a_manifest(spool):
    path = arrive(spool, letters(3))
    path.write_bytes(path.read_bytes()[:-20])
    with Sink() as sink:
        assert run(spool, sink.url, salvage=True).code == 65
    assert sink.taken == []


def test_a_message_the_grammar_refuses_is_set_aside_alone(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    good = batch(letters(3))
    path.write_bytes(good.replace(b"RCPT TO:<c@site.example>", b"RCPT TO:<c\x01@site.example>", 1))
    with Sink() as sink:
        first = run(spool, sink.url, path)
        second = run(spool, sink.url, path)

    assert first.code == 65
    assert first.outcomes == ["quarantined", "delivered", "delivered"]
    assert first.lines[0].message == 1
    assert (second.code, second.outcomes) == (0, ["skipped"] * 3)
    raw, _ = names(origin(spool, "bad", "local"))
    assert b"this is number 1" in (origin(spool, "bad", "local") / raw).read_bytes()
    assert b"this is number 2" not in (origin(spool, "bad", "local") / raw).read_bytes()


def test_refused_messages_in_a_row_are_each_set_aside_without_the_others(spool, tmp_path):
    """Each with all of them would fill the disk: ten thousand messages of 10 kB would come to 1 TB."""
    path = tmp_path / "x.bsmtp"
    bad = batch(letters(4)).replace(b"RCPT TO:<c@site.example>", b"RCPT TO:<c d@site.example>", 3)
    path.write_bytes(bad)
    with Sink() as sink:
        assert run(spool, sink.url, path).outcomes == ["quarantined"] * 3 + ["delivered"]

    kept = sorted(origin(spool, "bad", "local").glob("*.raw"))
    assert len(kept) == 3
    for number, one in enumerate(kept, 1):
        assert [n for n in range(1, 5) if b"this is number %d" % n in one.read_bytes()] == [number]
    assert b"MAIL FROM" in kept[2].read_bytes() and kept[2].read_bytes().endswith(b"\r\n.\r\n")
    assert sum(one.stat().st_size for one in kept) < len(bad)


def test_a_file_of_too_many_messages_is_kept_and_not_held_in_memory(spool, tmp_path, monkeypatch):
    """A few megabytes of compressed data can be a hundred million empty messages."""
    monkeypatch.setattr(examine, "MAX_MESSAGES", 3)
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch(letters(3)))
    with Sink() as sink:
        assert run(spool, sink.url, path).code == 0
        path.write_bytes(batch(letters(4)))
        result = run(spool, sink.url, path)

    assert (result.code, len(sink.taken)) == (65, 3)
    assert result.said("message 4, line 23, byte ") and result.said("the file has more than 3 messages")
    assert [one.read_bytes() for one in origin(spool, "bad", "local").glob("*.bsmtp")] == [batch(letters(4))]


# -- the spool --------------------------------------------------------------------------------------------------------


def test_a_finished_batch_lies_in_done_with_its_manifest(spool):
    path = arrive(spool, letters(2))
    with Sink() as sink:
        assert run(spool, sink.url).code == 0

    assert names(origin(spool, "done")) == [path.name, path.name + ".json"]
    assert names(origin(spool, "new")) == names(origin(spool, "work")) == names(origin(spool, "bad")) == []
    with ledger(spool) as book:
        [row] = book.batches(direction="in")
    assert (row.party, row.sequence, row.messages, row.state) == ("hub.example", 1, 2, "done")


def test_a_deferred_batch_stays_in_work_and_goes_first(spool):
    first = arrive(spool, letters(1))
    with Sink(lambda asked: BUSY if isinstance(asked.request, MailFrom) else None) as sink:
        assert run(spool, sink.url).code == 75
        assert names(origin(spool, "work")) == [first.name, first.name + ".json"]
        arrive(spool, letters(2)[1:], sequence=0)
        sink.answer = lambda asked: None
        assert run(spool, sink.url).code == 0

    assert [one.content for one in sink.taken] == [one.content for one in letters(2)]


@pytest.mark.parametrize(("here", "there"), [("new", "work"), ("work", "done"), ("new", "bad")])
def test_a_crash_between_manifest_and_batch_loses_neither(spool, here, there):
    path = arrive(spool, letters(1))
    for name in (path.name, path.name + ".json"):
        os.rename(path.with_name(name), origin(spool, here) / name)
    os.rename(origin(spool, here) / f"{path.name}.json", origin(spool, there) / f"{path.name}.json")
    with Sink() as sink:
        result = run(spool, sink.url)

    assert (result.code, len(sink.taken)) == (0, 1)
    assert names(origin(spool, "done")) == [path.name, path.name + ".json"]


def test_what_has_no_business_there_is_named_and_left(spool):
    arrive(spool, letters(1))
    (origin(spool, "new") / "notes.txt").write_text("x")
    (origin(spool, "new") / "link.bsmtp").symlink_to("/etc/passwd")
    with Sink() as sink:
        result = run(spool, sink.url)

    assert (result.code, len(sink.taken)) == (0, 1)
    assert result.said("notes.txt")
    assert result.said("link.bsmtp is not a regular file")
    assert names(origin(spool, "new")) == ["link.bsmtp", "notes.txt"]


def test_a_second_importer_is_told_and_changes_nothing(spool, x):
    import hashlib

    spool.mkdir()
    sha256 = hashlib.sha256(x.read_bytes()).hexdigest()
    with Sink() as sink, inbox.lock(str(spool), sha256):
        result = run(spool, sink.url, x)

    assert (result.code, sink.taken) == (75, [])
    assert result.said("another import of this batch is at work")


def test_a_batch_taken_away_by_another_importer_is_no_trouble(spool, monkeypatch):
    path = arrive(spool, letters(1))
    original = inbox.lock

    def late(*arguments):
        found = original(*arguments)
        os.rename(path, origin(spool, "done") / path.name)
        return found

    monkeypatch.setattr(inbox, "lock", late)
    with Sink() as sink:
        result = run(spool, sink.url)

    assert (result.code, sink.taken, result.tallies) == (0, [], [])


def test_a_directory_is_every_batch_in_it(spool, tmp_path):
    for name, letter in zip(("b.bsmtp", "a.bsmtp", "c.txt"), letters(3), strict=True):
        (tmp_path / name).write_bytes(batch([letter]))
    with Sink() as sink:
        run(spool, sink.url, tmp_path)

    assert [b"number 2" in one.content for one in sink.taken] == [True, False]


@pytest.mark.timeout(30)
def test_what_is_no_file_in_a_directory_is_named_and_left(spool, tmp_path):
    """A named pipe on a medium would be waited for until somebody pulls the plug."""
    medium = tmp_path / "medium"
    medium.mkdir()
    (medium / "a.bsmtp").write_bytes(batch(letters(1)))
    os.mkfifo(medium / "b.bsmtp")
    (medium / "c.bsmtp").symlink_to("/etc/passwd")
    (medium / "d.bsmtp").mkdir()
    with Sink() as sink:
        result = run(spool, sink.url, medium)

    assert (result.code, len(sink.taken)) == (0, 1)
    assert all(result.said(f"/{name}.bsmtp is not a regular file; it is left alone") for name in "bcd")
    assert not (spool / "in" / "local" / "bad").exists()


def test_a_damaged_file_on_standard_input_is_kept(spool, x):
    """Nobody else has it: what a pipe brought cannot be read a second time."""
    damaged = [gzip.compress(octets)[:-6] for octets in (x.read_bytes(), batch(letters(9)))]
    kept = os.dup(0)
    try:
        for octets in damaged:
            read, write = os.pipe()
            os.write(write, octets)
            os.close(write)
            os.dup2(read, 0)
            os.close(read)
            assert run(spool, "smtp://127.0.0.1:1", "-").code == 65
    finally:
        os.dup2(kept, 0)
        os.close(kept)

    bad = origin(spool, "bad", "local")
    assert sorted(one.read_bytes() for one in bad.glob("*.bsmtp")) == sorted(damaged)
    assert all("ends too early" in one.read_text() for one in bad.glob("*.reason"))


def test_a_file_with_its_manifest_beside_it_is_held_to_it(spool, x):
    Path(f"{x}.json").write_bytes(manifest(x.read_bytes(), letters(2)).to_bytes())
    with Sink() as sink:
        result = run(spool, sink.url, x)

    assert (result.code, sink.taken) == (65, [])


def test_nothing_to_do_is_done(spool):
    assert run(spool, "smtp://127.0.0.1:1").code == 0


def test_a_file_whose_name_is_no_text_is_imported_and_remembered(spool, tmp_path):
    """The ledger could not write its name, after its mail had been sent: it and every file behind it came again."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.bsmtp")
    Path(path).write_bytes(batch(letters(1)))
    with Sink() as sink:
        first = run(spool, sink.url, path)
        second = run(spool, sink.url, path)

    assert (first.code, first.outcomes) == (0, ["delivered"])
    assert (second.code, second.outcomes) == (0, ["skipped"])
    assert [tally.name for tally in first.tallies] == ["\\xff.bsmtp"]


def test_a_file_that_is_not_there_is_a_usage_error_before_anything_is_sent(spool, x):
    with Sink() as sink, pytest.raises(Usage, match="no file"):
        run(spool, sink.url, x, "/nonexistent.bsmtp")
    assert sink.taken == []


def test_a_file_that_vanishes_or_may_not_be_read_is_told(spool, x, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(Usage, match=f"may not be read by {user_name()}"):
        run(spool, "smtp://127.0.0.1:1", x)


def test_a_batch_in_the_spool_that_cannot_be_opened_is_for_later(spool, monkeypatch):
    path = arrive(spool, letters(1))

    def closed(name, **_):
        raise Usage(f"{name} cannot be opened: Permission denied", safe="", next="")

    monkeypatch.setattr(stage, "open_raw", closed)
    with Sink() as sink:
        result = run(spool, sink.url)

    assert (result.code, sink.taken) == (75, [])
    assert result.said("Permission denied")
    assert path.exists()


def test_a_spool_that_cannot_be_made_is_a_setting(x):
    with pytest.raises(Setting):
        run(Path("/proc/nothing"), "smtp://127.0.0.1:1", x)


def test_a_broken_ledger_keeps_the_mail(spool, x):
    from bsmtp_batch.errors import Later

    spool.mkdir()
    (spool / "ledger.db").write_bytes(b"not a database at all" * 100)
    with Sink() as sink, pytest.raises(Later):
        run(spool, sink.url, x)
    assert sink.taken == []


# -- dry run and force ------------------------------------------------------------------------------------------------


def test_a_dry_run_changes_and_sends_nothing(spool, tmp_path):
    path = arrive(spool, [Letter(to=(b"c@site.example", b"x@evil.example"))])
    before = sorted(spool.rglob("*"))
    result = run(spool, None, domains=["site.example"], dry_run=True)

    assert result.of(1) == {b"c@site.example": "pending", b"x@evil.example": "quarantined"}
    assert sorted(spool.rglob("*")) == before
    path.write_bytes(b"HELO x\r\n")
    assert run(spool, None, dry_run=True).code == 65
    assert sorted(spool.rglob("*")) == before


def test_force_failed_takes_up_what_was_refused(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"gone@site.example", b"c@site.example"))]))
    with Sink(refuse(b"gone")) as sink:
        run(spool, sink.url, path)
        sink.answer = lambda asked: None
        result = run(spool, sink.url, path, force="failed")

    assert result.said("--force=failed: 1 recipients refused before")
    assert (result.code, sorted(result.outcomes)) == (0, ["delivered", "skipped"])
    assert sink.taken[-1].to == [b"gone@site.example"]


def test_force_all_says_what_it_doubles_and_asks(spool, x):
    with Sink() as sink:
        run(spool, sink.url, x)
        with pytest.raises(Usage, match="not handed in again"):
            run(spool, sink.url, x, force="all", yes=False)
        assert len(sink.taken) == 3
        result = run(spool, sink.url, x, force="all")

    assert result.said("up to 3 recipients may get a message twice")
    assert result.questions
    assert len(sink.taken) == 6


def test_force_unknown_sends_only_what_is_in_doubt(spool, x):
    with Sink(nth_dot(1, DROP)) as sink:
        run(spool, sink.url, x)
        sink.answer = lambda asked: BUSY if isinstance(asked.request, MailFrom) else None
        sink.answer = lambda asked: None
        result = run(spool, sink.url, x, force="unknown")

    assert result.said("--force=unknown: 1 recipients in doubt")
    assert result.outcomes.count("delivered") == 1
    assert len(sink.taken) == 4


# -- what arrives is what was sent ------------------------------------------------------------------------------------

AWKWARD = [
    Letter(content=b".\r\n..\r\n.x\r\n...\r\n"),
    Letter(content=b""),
    Letter(content="Subject: Grüße\r\n\r\näöü\r\n".encode()),
    Letter(content=b"Subject: x\r\n\r\n\xff\xfe\r\n"),
    Letter(content=b"x: y\r\n\r\n" + b"z" * 5000 + b"\r\n"),
    Letter(content=b"x: y\r\n\r\n" + b".0123456789\r\n" * 250_000),
    Letter(content=b"MAIL FROM:<x@y>\r\nDATA\r\nQUIT\r\n"),
    Letter(sender=b"", content=b"x: null sender\r\n\r\n"),
    Letter(to=("bücher@site.example".encode(), b'"two words"@site.example', b"-rf@site.example")),
    Letter(sender=b"<a@hub.example> RET=HDRS ENVID=x BODY=8BITMIME", to=(b"<c@site.example> NOTIFY=NEVER",)),
]


def test_awkward_messages_arrive_octet_for_octet_with_their_envelopes(spool):
    arrive(spool, AWKWARD)
    with Sink() as sink:
        result = run(spool, sink.url)

    assert result.code == 0
    assert [one.content for one in sink.taken] == [one.content for one in AWKWARD]
    assert [one.mail.path for one in sink.taken] == [one.mail.path for one in AWKWARD]
    assert [list(one.rcpts) for one in sink.taken] == [one.rcpts for one in AWKWARD]
    assert dict(sink.taken[-1].mail.params) == {
        b"SIZE": b"%d" % len(AWKWARD[-1].content),
        b"BODY": b"8BITMIME",
        b"RET": b"HDRS",
        b"ENVID": b"x",
    }


def test_a_batch_of_another_program_with_lf_lines_arrives_with_crlf(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch(AWKWARD[:8]).replace(b"\r\n", b"\n").replace(b"EHLO hub.example\n", b""))
    with Sink() as sink:
        result = run(spool, sink.url, path)

    assert result.code == 0
    assert [one.content for one in sink.taken] == [one.content for one in AWKWARD[:8]]


# -- what cannot be set aside ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", [b"", b"a@hub.example"])
def test_a_full_bad_directory_does_not_make_the_other_recipients_get_a_message_again(
    spool, tmp_path, monkeypatch, sender
):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(sender=sender, to=(b"gone@site.example", b"c@site.example"))]))

    def full(*_):
        raise OSError(28, "No space left on device")

    with Sink(refuse(b"gone")) as sink:
        with monkeypatch.context() as patch:
            patch.setattr(aside, "_put", full)
            runs = [run(spool, sink.url, path, bounce=False) for _ in range(3)]
        last = run(spool, sink.url, path, bounce=False)

    assert [one.of(1)[b"gone@site.example"] for one in runs] == ["deferred"] * 3
    assert all(one.code == 75 and one.said("waits for the next run") for one in runs)
    assert [one.of(1)[b"c@site.example"] for one in runs] == ["delivered", "skipped", "skipped"]
    assert len(sink.taken) == 1
    assert (last.code, last.of(1)[b"gone@site.example"]) == (65, "quarantined")


def test_a_report_that_cannot_be_told_leaves_no_message_in_doubt_that_was_not_sent(spool, x):
    """The mark before the final dot is durable when the watcher breaks: what broke has to come out, not a second
    fault."""

    class Broken(Exception):
        pass

    class Deaf(Notebook):
        def line(self, line):
            raise Broken

    with Sink() as sink, pytest.raises(Broken):
        target = targets.target_of(address.parse(sink.url), node=NODE)
        stage.run([str(x)], Options(spool=str(spool), node=NODE, policy=Policy([]), target=target), Deaf())
