"""Import as a whole: every batch named, or every batch that has arrived, opened, verified, locked, run and put away."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.batch.manifest import MAX_BYTES, Manifest, ManifestError
from bsmtp_batch.edge.opening import open_raw, plain_of
from bsmtp_batch.edge.user import user_name
from bsmtp_batch.errors import Bad, Later, Problem, Setting, Usage
from bsmtp_batch.importer import inbox, room
from bsmtp_batch.importer.identity import key_of
from bsmtp_batch.importer.inbox import Arrival
from bsmtp_batch.importer.one import BatchImport, Options, Tally, Watcher
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.replay import aside
from bsmtp_batch.replay.engine import Engine
from bsmtp_batch.replay.examine import Examined, examine, stamp_of
from bsmtp_batch.spool import listing, names
from bsmtp_batch.spool.directories import DISK, make_directories
from bsmtp_batch.spool.listing import Odd, read_small
from bsmtp_batch.spool.store import MANIFEST, SIGNATURE, SIGNATURE_CAP

LOCAL = "local"
"""The origin of batches that were named on the command line."""
STDIN = "-"


@dataclass(frozen=True)
class Source:
    """A batch to import: ``path`` (None: standard input), its manifest if one lies beside it, its place in the spool if
    it has one (then the manifest is looked for there), the signature if one lies beside a file that was named."""

    path: str | None
    manifest: str | None
    arrival: Arrival | None = None
    signature: str | None = None

    @property
    def name(self) -> str:
        """What people, the ledger and JSON call it: text, also where the file's name is octets that are none."""
        name = os.fsencode(os.path.basename(self.path)) if self.path else b"standard input"
        return name.decode("utf-8", "backslashreplace")

    @property
    def origin(self) -> str:
        """The directory in ``in/`` it belongs to."""
        return self.arrival.origin if self.arrival else LOCAL


def run(files: list[str], options: Options, watcher: Watcher) -> int:
    """Import ``files`` (paths, directories, ``-``), or with none of them what has arrived; returns the exit code.

    0 all done, 75 something is left for the next run, 65 something was set aside and nothing is left. Raises
    :class:`~bsmtp_batch.errors.Problem` for what concerns the run as a whole.
    """
    sources = list(named(files, watcher)) if files else list(_arrived(options.spool, watcher))
    if not sources:
        return 0
    if options.policy.open:
        watcher.trouble("no local domain is named (--local-domain, [import] local_domains): every recipient is taken")
    _prepare(options)
    tallies = []
    with ExitStack() as stack:
        stack.enter_context(room.made(options.spool, dry_run=options.dry_run))
        ledger = Ledger(f"{options.spool}/{names.LEDGER}", read_only=options.dry_run, now=options.now)
        stack.enter_context(ledger)
        engine = None
        if options.target and not options.dry_run:
            engine = stack.enter_context(Engine(options.target, connections=options.connections))
        for source in sources:
            tally = Stage(source, options, ledger, watcher, engine).run()
            if tally is not None:
                tallies.append(tally)
                watcher.summary(tally)
    if any(tally.later for tally in tallies):
        return Later.code
    return Bad.code if any(tally.bad for tally in tallies) else 0


def named(files: Iterable[str], watcher: Watcher) -> Iterator[Source]:
    """What the arguments ``files`` mean. Raises :class:`~bsmtp_batch.errors.Usage` for one that cannot be read."""
    for file in files:
        if file == STDIN:
            yield Source(None, None)
        elif os.path.isdir(file):
            yield from _inside(file, watcher)
        elif not os.path.exists(file):
            raise Usage(f"there is no file {file!r}", safe="Nothing was sent", next="check the name")
        elif not os.access(file, os.R_OK):
            raise Usage(
                f"{file!r} may not be read by {user_name()}",
                safe="Nothing was sent",
                next="let that user read the file, or copy it; what root starts runs as the owner of the spool",
            )
        else:
            yield _named(file)


def _inside(directory: str, watcher: Watcher) -> Iterator[Source]:
    """The batches in a directory, which may be anybody's: links are not followed and pipes not waited for."""
    for found in sorted(listing.entries(directory, lenient=True), key=lambda one: one.path):
        if isinstance(found, Odd) and found.path == directory:
            raise Usage(f"{directory!r} {found.reason}", safe="Nothing was sent", next="check who may read it")
        if not found.path.endswith(inbox.SUFFIXES):
            continue
        if isinstance(found, Odd):
            watcher.trouble(f"{found.path} {found.reason}; it is left alone")
        else:
            yield _named(found.path)


def _named(path: str) -> Source:
    manifest, signature = (inbox.plain_name(path) + suffix for suffix in (MANIFEST, SIGNATURE))
    return Source(
        path,
        manifest if os.path.exists(manifest) else None,
        signature=signature if os.path.exists(signature) else None,
    )


def _arrived(spool: str, watcher: Watcher) -> Iterator[Source]:
    for found in inbox.arrivals(spool):
        if isinstance(found, Odd):
            watcher.trouble(f"{found.path} {found.reason}; it is left alone")
        else:
            yield Source(found.path, None, found)


def _prepare(options: Options) -> None:
    """Make what every import needs in the spool; an import needs no route."""
    if options.dry_run:
        return
    try:
        make_directories(f"{options.spool}/{names.IN}", options.spool)
    except OSError as error:
        if error.errno in DISK:
            raise  # the disk, not the configuration: a later run may find it mended
        raise Setting(
            f"the spool {options.spool} cannot be used: {error.strerror}",
            safe="Nothing was sent",
            next="name a directory this user may write with --spool, or run this as the owner of the spool",
        ) from error


class Stage:
    """The way of one batch through an import."""

    def __init__(
        self, source: Source, options: Options, ledger: Ledger, watcher: Watcher, engine: Engine | None
    ) -> None:
        self._source = source
        self._options = options
        self._ledger = ledger
        self._watcher = watcher
        self._engine = engine
        self._one: BatchImport | None = None

    def run(self) -> Tally | None:
        """Do it; None when another importer has taken the batch away meanwhile.

        Trouble with this batch is told and ends in the tally: the next batch may still go through.
        """
        try:
            with ExitStack() as stack:
                return self._run(stack)
        except (Bad, Later) as problem:
            return self._give_up(problem)
        except OSError as error:
            if self._gone():
                return None
            return self._give_up(
                Later(
                    f"it cannot be imported now: {error.strerror or error}",
                    safe="It stays where it is",
                    next="see to the disk and run the import again",
                )
            )

    def _run(self, stack: ExitStack) -> Tally | None:
        try:
            manifest = self._manifest()
        except ManifestError as error:
            return self._put_away_unread(str(error), self._opened(stack, self._options.cap))
        cap = manifest.bytes if manifest else self._options.cap
        raw = self._opened(stack, cap)
        if raw is None:
            return None
        try:
            file, _ = plain_of(raw, self._source.path or self._source.name, cap=cap)
        except Bad as problem:
            return self._put_away_unread(problem.what, raw)
        stack.enter_context(file)
        stamp = stamp_of(file) if file is raw else None
        examined = examine(BatchFile(file), manifest)
        examined.stamp = stamp
        examined.bad = examined.bad or self._wrong_signature(manifest)
        if not self._options.dry_run:
            stack.enter_context(inbox.lock(self._options.spool, examined.sha256))
            if self._gone():
                return None
        if examined.bad and not self._salvageable(examined):
            return self._put_away(examined, file)
        return self._import(examined, file)

    def _opened(self, stack: ExitStack, cap: int) -> BinaryIO | None:
        """The file as it came, open until ``stack`` is closed; None when another importer has taken it away."""
        try:
            return stack.enter_context(open_raw(self._source.path, cap=cap))
        except Usage as error:
            if self._gone():
                return None
            raise Later(error.what, safe="It stays where it is", next="see to it and run the import again") from error

    def _gone(self) -> bool:
        """Whether the batch has left its place in the spool since it was listed: another importer had it."""
        return self._source.arrival is not None and not os.path.lexists(self._source.arrival.path)

    def _manifest(self) -> Manifest | None:
        """Raises ``ManifestError`` when it is none, and ``OSError``."""
        path = self._source.arrival.manifest() if self._source.arrival else self._source.manifest
        if path is None:
            return None
        try:
            return Manifest.from_bytes(read_small(path, MAX_BYTES))
        except ManifestError:
            raise
        except ValueError as error:
            raise ManifestError(f"the manifest {error}") from error

    def _wrong_signature(self, manifest: Manifest | None) -> str:
        """What is wrong with the signature beside the file, where there is one and somebody said whose are good."""
        if self._source.signature is None or self._options.verify is None:
            return ""
        if manifest is None:
            return "there is a signature, and the manifest that it is over is missing"
        try:
            signature = read_small(self._source.signature, SIGNATURE_CAP)
        except ValueError as error:
            return f"the signature {error}"
        return self._options.verify(manifest.to_bytes(), signature, manifest.origin)

    # -- a batch that may be imported ----------------------------------------------------------------------------

    def _import(self, examined: Examined, file: BinaryIO) -> Tally:
        arrival = self._source.arrival
        if arrival and not self._options.dry_run:
            arrival = arrival.move(names.WORK)
        self._one = one = BatchImport(
            examined,
            file,
            key=key_of(examined, self._ledger),
            name=self._source.name,
            origin=self._source.origin,
            stem=self._stem(examined),
            options=self._options,
            ledger=self._ledger,
            watcher=self._watcher,
            engine=self._engine,
        )
        complete = one.run()
        if self._options.dry_run:
            return one.tally
        if examined.bad:
            self._finish_salvage(examined, file, arrival, one.tally, complete)
        elif complete:
            self._note(examined, names.DONE)
            if arrival:
                arrival.move(names.DONE)
        else:
            self._note(examined, names.WORK, "something of it is left for a later run")
        return one.tally

    def _salvageable(self, examined: Examined) -> bool:
        """Whether the complete messages of a damaged file are wanted: now, or by a run before that left some over."""
        if examined.manifest is not None or not examined.messages:
            return False
        if self._options.salvage:
            return True
        begun = self._ledger.batches(direction="in", party=self._source.origin, state=names.WORK)
        return any(row.sha256 == examined.sha256 for row in begun)

    def _finish_salvage(
        self, examined: Examined, file: BinaryIO, arrival: Arrival | None, tally: Tally, complete: bool
    ) -> None:
        """Put the damaged file into ``bad/`` once its complete messages are out of it."""
        tally.bad = True
        self._watcher.trouble(
            f"{self._source.name}: what is complete was taken (messages: {len(examined.messages)}); {examined.bad}."
            " A whole copy of this file would bring them again"
        )
        if not complete:
            self._note(examined, names.WORK, examined.bad)
            return
        self._note(examined, names.BAD, examined.bad)
        self._to_bad(self._stem(examined), examined.bad, file, arrival)

    # -- a batch that may not ------------------------------------------------------------------------------------

    def _put_away(self, examined: Examined, file: BinaryIO) -> Tally:
        tally = Tally(self._source.name, bad=True)
        salvage = ""
        if examined.messages and examined.manifest is None:
            salvage = f"; --salvage would take what is complete before it (messages: {len(examined.messages)})"
        self._watcher.trouble(f"{self._source.name}: nothing was sent: {examined.bad}{salvage}")
        if not self._options.dry_run:
            self._note(examined, names.BAD, examined.bad)
            self._to_bad(self._stem(examined), examined.bad, file, self._source.arrival)
        return tally

    def _put_away_unread(self, reason: str, raw: BinaryIO | None) -> Tally | None:
        """A file that is not even readable as what it says it is: damaged compression, a manifest that is none."""
        if raw is None:
            return None
        self._watcher.trouble(f"{self._source.name}: nothing was sent: {reason}")
        if not self._options.dry_run:
            raw.seek(0)
            digest = hashlib.file_digest(raw, "sha256")  # type: ignore[arg-type]  # a file, whatever class of it
            stem = f"{_clean(self._source.name)}.{digest.hexdigest()[:12]}"
            self._to_bad(stem, reason, raw, self._source.arrival)
        return Tally(self._source.name, bad=True)

    def _to_bad(self, stem: str, reason: str, file: BinaryIO, arrival: Arrival | None) -> None:
        base = aside.make_origin(self._options.spool, self._source.origin)
        if arrival:
            aside.write_reason(base, arrival.name, reason)
            arrival.move(names.BAD)
        else:
            aside.Aside(base, stem, self._options.node).whole(file, reason)

    def _give_up(self, problem: Problem) -> Tally:
        self._watcher.trouble(f"{self._source.name}: {problem}")
        tally = self._one.tally if self._one else Tally(self._source.name)
        tally.later = tally.later or problem.code == Later.code
        tally.bad = tally.bad or problem.code == Bad.code
        return tally

    # -- names and notes -----------------------------------------------------------------------------------------

    def _stem(self, examined: Examined) -> str:
        """What names in ``bad/`` begin with: the batch's own in its origin's directory; with some of its hash in the
        directory that files from everywhere share."""
        name = _clean(self._source.name)
        return name if self._source.arrival else f"{name}.{examined.sha256[:12]}"

    def _note(self, examined: Examined, state: str, reason: str = "") -> None:
        manifest = examined.manifest
        parsed = names.parse_batch_name(inbox.plain_name(self._source.name))
        self._ledger.note_batch(
            "in",
            self._source.origin,
            inbox.plain_name(self._source.name),
            manifest.sequence if manifest else parsed[1] if parsed else 0,
            examined.sha256,
            len(examined.messages),
            examined.recipients,
            examined.batch.size,
            state,
            reason,
        )


def _clean(name: str) -> str:
    """``name`` as the beginning of a file name of ours."""
    plain = inbox.plain_name(name).removesuffix(names.BATCH_SUFFIX)
    safe = "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "_" for c in plain)
    return safe.lstrip(".-")[:150] or "batch"
