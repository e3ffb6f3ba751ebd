"""The stages under the matrix: from which state each is started, and what an operator's timers do after a crash."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from support import matrix, strace
from support.matrix import Point, Tally
from support.strace import Call
from support.two_nodes import GROUP_FILES, LARGE, MESSAGES, ROUTE, Message, Nodes, Torn, stub_command
from support.warm import Ended, Step

Build = Callable[[Nodes], None]
Steps = Callable[[Nodes], list[Step]]
HandIn = Callable[[Nodes, Message], Step]
KILLED = -9


@dataclass(frozen=True)
class Case:
    """One command in one state.

    ``accepted`` are the messages the MTA was told yes for before; ``handed`` is the one this command hands in, so
    the MTA repeats it until it is told yes. ``follow`` names what may come next after a crash. ``outcome`` puts
    into words what a crash left, for the summary."""

    name: str
    build: Build
    step: Callable[[Nodes], Step]
    accepted: tuple[Message, ...]
    follow: dict[str, Steps]
    outcome: Callable[[Nodes], str]
    handed: Message | None = None
    until: Callable[[Call], bool] | None = None
    """The call behind which it goes on as another case does."""


def count(pattern: str, one: str, none: str) -> Callable[[Nodes], str]:
    """An outcome: how many files there are."""

    def words(nodes: Nodes) -> str:
        found = [p for p in nodes.home.glob(pattern) if not p.name.startswith(".")]
        return none if not found else one if len(found) == 1 else f"{len(found)} {one}"

    return words


def empty(nodes: Nodes) -> None:
    """A route and nothing in it."""
    nodes.found()


def waiting(*messages: Message) -> Build:
    """Messages in ``new/``."""

    def build(nodes: Nodes) -> None:
        nodes.found()
        for message in messages:
            nodes.must(nodes.hand_in(message))

    return build


def grouped(*commits: list[Message]) -> Build:
    """Messages that were accepted together and are in a group, not in ``new/``."""

    def build(nodes: Nodes) -> None:
        nodes.found()
        nodes.group(*commits)

    return build


def sealed(*batches: tuple[Message, ...]) -> Build:
    """Batches in ``ready/``."""

    def build(nodes: Nodes) -> None:
        nodes.found()
        for batch in batches:
            for message in batch:
                nodes.must(nodes.hand_in(message))
            nodes.must(nodes.seal())

    return build


def after(build: Build, *steps: Callable[[Nodes], Step]) -> Build:
    """A state, and what else is done to get to the wanted one."""

    def more(nodes: Nodes) -> None:
        build(nodes)
        for step in steps:
            nodes.must(step(nodes))

    return more


def stopped(build: Build, step: Callable[[Nodes], Step], before: Callable[[Call], bool]) -> Build:
    """A state that a command left which was killed on entry of the first call that ``before`` recognises."""

    def half_way(nodes: Nodes) -> None:
        log = nodes.warm.scratch / "half.log"
        build(nodes)
        nodes.warm.traced(step(nodes), strace.options(log))
        there = next(call for call in strace.parse(log) if before(call))
        build(nodes)
        ended = nodes.warm.traced(step(nodes), strace.options(log, strace.kill_at(there.name, there.ordinal)))
        assert ended.code == KILLED, str(ended)

    return half_way


def publishes(pattern: str) -> Callable[[Call], bool]:
    """Recognises the rename that gives a file a name like the regular expression ``pattern``."""
    return lambda call: call.name.startswith("rename") and re.search(f'{pattern}"\\) *= 0', call.text) is not None


def removes(pattern: str) -> Callable[[Call], bool]:
    """Recognises the removal of a file with a name like the regular expression ``pattern``."""
    return lambda call: call.name.startswith("unlink") and re.search(pattern, call.text) is not None


DRAINED = removes(r"/groups/[0-9a-f]+\.full")
ONE, TWO, THREE, FOUR = MESSAGES
TWO_BATCHES = after(waiting(ONE, TWO), Nodes.seal_signed, lambda nodes: nodes.hand_in(THREE), Nodes.seal)
"""The first of them signed, the second not."""
PUSHED = after(TWO_BATCHES, Nodes.push)
PULLED = after(PUSHED, Nodes.pull)
AGAIN: dict[str, Steps] = {"again": lambda nodes: []}


def delivering(name: str, message: Message, build: Build, *accepted: Message, way: HandIn = Nodes.hand_in) -> Case:
    """A hand-in that is killed: the MTA repeats it at once, or after everything so far has been sealed and has left."""
    return Case(
        f"{'deliver' if way is Nodes.hand_in else 'LMTP'}, {name}",
        build,
        lambda nodes: way(nodes, message),
        accepted,
        {
            "repeated at once": lambda nodes: [way(nodes, message)],
            "sealed before it is repeated": lambda nodes: [nodes.seal(), way(nodes, message)],
            "handed over before it is repeated": lambda nodes: [*nodes.round(), way(nodes, message)],
        },
        count(f"hub/out/{ROUTE}/new/{'*'}", "in new/", "nothing in new/"),
        message,
    )


DELIVER = [
    delivering("first message", ONE, empty),
    delivering("another waits", TWO, waiting(ONE), ONE),
    delivering("1.2 MB", LARGE, empty),
    delivering("repeated", ONE, waiting(ONE), ONE),
    delivering("repeated after seal", ONE, sealed((ONE,)), ONE),
]
LMTP = [
    delivering("first message", ONE, empty, way=Nodes.hand_in_by_lmtp),
    delivering("another in a group", TWO, grouped([ONE]), ONE, way=Nodes.hand_in_by_lmtp),
    delivering("1.2 MB", LARGE, empty, way=Nodes.hand_in_by_lmtp),
    delivering("repeated", ONE, grouped([ONE]), ONE, way=Nodes.hand_in_by_lmtp),
    delivering("repeated after seal", ONE, after(grouped([ONE]), Nodes.seal), ONE, way=Nodes.hand_in_by_lmtp),
]
STAGES = [
    Case(
        "seal, a group that nobody drained",
        grouped([ONE], [TWO, THREE]),
        Nodes.seal,
        (ONE, TWO, THREE),
        {
            "sealed again": lambda nodes: [],
            "new mail first": lambda nodes: [nodes.hand_in(FOUR)],
            "new mail by LMTP first": lambda nodes: [nodes.hand_in_by_lmtp(FOUR)],
        },
        count(GROUP_FILES, "not drained", "drained"),
        until=DRAINED,
    ),
    Case(
        "seal, a group that was drained half way",
        stopped(grouped([ONE, TWO]), Nodes.seal, DRAINED),
        Nodes.seal,
        (ONE, TWO),
        AGAIN,
        count(GROUP_FILES, "not drained", "drained"),
        until=DRAINED,
    ),
    Case(
        "seal, three messages",
        waiting(ONE, TWO, THREE),
        Nodes.seal,
        (ONE, TWO, THREE),
        {
            "sealed again": lambda nodes: [],
            "fetched before it is sealed again": lambda nodes: [nodes.push(), nodes.pull(), nodes.import_()],
            "new mail first": lambda nodes: [nodes.hand_in(FOUR)],
        },
        count("hub/out/*/ready/*.bsmtp", "committed", "undone"),
    ),
    Case(
        "seal, second batch",
        after(sealed((ONE,)), lambda nodes: nodes.hand_in(TWO)),
        Nodes.seal_signed,
        (ONE, TWO),
        AGAIN,
        count("hub/out/*/ready/*.bsmtp", "batch in ready/", "none"),
    ),
    Case(
        "seal, undoing an unfinished one",
        stopped(waiting(ONE, TWO), Nodes.seal_signed, publishes(r"/ready/[^/]*\.bsmtp")),
        Nodes.seal,
        (ONE, TWO),
        AGAIN,
        count("hub/out/*/ready/*.bsmtp", "committed", "undone"),
    ),
    Case(
        "seal, finishing a committed one",
        stopped(waiting(ONE, TWO), Nodes.seal, removes(f"/out/{ROUTE}/new/")),
        Nodes.seal,
        (ONE, TWO),
        {
            "sealed again": lambda nodes: [],
            "fetched first": lambda nodes: [nodes.push(), nodes.pull(), nodes.import_()],
        },
        count("hub/out/*/lists/*.done", "finished", "not finished"),
    ),
    Case(
        "push, two batches",
        TWO_BATCHES,
        Nodes.push,
        (ONE, TWO, THREE),
        {
            "pushed again": lambda nodes: [],
            "pulled before it is pushed again": lambda nodes: [nodes.pull(), nodes.import_()],
        },
        count("medium/*/*.bsmtp", "on the medium", "nothing on the medium"),
    ),
    Case(
        "push, receipts",
        PULLED,
        Nodes.push,
        (ONE, TWO, THREE),
        {
            "pushed again": lambda nodes: [],
            "pulled before it is pushed again": lambda nodes: [nodes.pull(), nodes.import_()],
            "sealed before it is pushed again": lambda nodes: [nodes.hand_in(FOUR), nodes.seal()],
        },
        count("hub/out/*/kept/*.bsmtp", "released", "none released"),
    ),
    Case(
        "pull, two batches",
        PUSHED,
        Nodes.pull,
        (ONE, TWO, THREE),
        {
            "pulled again": lambda nodes: [],
            "pushed before it is pulled again": lambda nodes: [nodes.push(), nodes.import_()],
        },
        count("site/in/*/new/*.bsmtp", "received", "none received"),
    ),
    Case(
        "import, two batches, Maildir",
        PULLED,
        Nodes.import_,
        (ONE, TWO, THREE),
        {
            "imported again": lambda nodes: [],
            "pulled before it is imported again": lambda nodes: [nodes.pull(), nodes.push()],
        },
        count("mail/new/*", "delivered", "none delivered"),
    ),
]
CASES = {case.name: case for case in [*DELIVER, *LMTP, *STAGES]}


def _large(verb: str, build: Build, step: Callable[[Nodes], Step], outcome: Callable[[Nodes], str]) -> Case:
    return Case(f"{verb}, 1.2 MB", build, step, (LARGE,), AGAIN, outcome)


CUT_CASES = [
    DELIVER[0],
    DELIVER[2],
    _large("seal", waiting(LARGE), Nodes.seal, CASES["seal, three messages"].outcome),
    _large("push", sealed((LARGE,)), Nodes.push, CASES["push, two batches"].outcome),
    _large("pull", after(sealed((LARGE,)), Nodes.push), Nodes.pull, CASES["pull, two batches"].outcome),
    _large(
        "import",
        after(sealed((LARGE,)), Nodes.push, Nodes.pull),
        Nodes.import_,
        CASES["import, two batches, Maildir"].outcome,
    ),
]
"""For writes that are cut: files of a stage other than the mail, the ledger for one, are all smaller than the cut."""


@dataclass
class Bench:
    """Runs cases: keeps their start states, hits them at points, checks what comes of it."""

    nodes: Nodes
    saved: Path
    package: Path | None = None
    _clean: dict[str, list[Call]] = field(default_factory=dict)

    def start(self, case: Case) -> Path:
        """The saved start state of a case."""
        where = self.saved / case.name.replace(" ", "-").replace(",", "")
        if not where.exists():
            case.build(self.nodes)
            self.nodes.save(where)
        return where

    def clean(self, case: Case, start: Path | None = None) -> list[Call]:
        """The calls of the command from its first real step to its end, undisturbed; ``start`` is another state.

        The first run ever may still compile modules and write what it compiled; the matrix gets the second.
        """
        if start is not None:
            return self._listed(case, start)
        if case.name not in self._clean:
            self._listed(case, self.start(case))
            self._clean[case.name] = self._listed(case, self.start(case))
        return self._clean[case.name]

    def _listed(self, case: Case, start: Path) -> list[Call]:
        self.nodes.become(start)
        ended = self.traced(case, None)
        assert ended.code == 0, str(ended)
        calls = strace.parse(self.log)
        if case.step(self.nodes).program != "deliver":
            return matrix.after_mark(calls)
        return matrix.after_mark(calls, lambda c: str(self.nodes.home) in c.text and c.name != "execve")

    def own_part(self, case: Case) -> list[Call]:
        """The calls of the clean run that are not those of another case as well, and that are made each time.

        Who of two hangs up first is chance.
        """
        calls = [call for call in self.clean(case) if call.name != "shutdown"]
        last = next((n for n, call in enumerate(calls) if case.until and case.until(call)), len(calls) - 2)
        return calls[: last + 2]

    @property
    def log(self) -> Path:
        """Where strace writes."""
        return self.saved / "strace.log"

    def traced(self, case: Case, inject: str | None, *, fsize: int | None = None) -> Ended:
        """Run the command of ``case`` under strace. ``deliver`` is started by its stub, as the MTA starts it.

        Only the clean run lists all calls; strace makes each call it lists slow.
        """
        step = case.step(self.nodes)
        names = f"{inject.partition(':')[0]},fsync,fdatasync" if inject else "all"
        if step.program == "lmtp":
            watch = strace.options(self.log, inject, names)
            return self.nodes.by_lmtp(step, lambda server, hand_in: self.nodes.warm.traced(server, watch, hand_in))
        if step.program != "deliver":
            step = Step(step.program, step.argv, step.stdin, fsize)
            return self.nodes.warm.traced(step, strace.options(self.log, inject, names))
        prefix = ["prlimit", f"--fsize={fsize}:"] if fsize is not None else None
        done = strace.run(
            [*stub_command(self.package), *step.argv], self.log, inject=inject, names=names,
            stdin=Path(step.stdin).read_bytes(), prefix=prefix,
        )  # fmt: skip
        return Ended(step, done.returncode, done.stdout.decode(), done.stderr.decode())

    def kill(self, case: Case, points: list[Point], tally: Tally) -> None:
        """Kill at each point; then everything an operator's timers do, in each order they may do it."""
        for point in points:
            self.nodes.become(self.start(case))
            ended = self.traced(case, strace.kill_at(point.name, point.ordinal))
            if not (ended.code == KILLED and strace.was_killed(self.log)):
                tally.missed(point, by_chance=case in LMTP)
                continue
            tally.hit(case.outcome(self.nodes))
            heard = case.step(self.nodes).program == "lmtp" and self.nodes.told_yes
            self.judge(case, point, tally, told_yes=heard)

    def fail(self, case: Case, points: list[Point], tally: Tally, error: str, *, onwards: bool) -> None:
        """Answer each point with ``error``; the exit status has to be an honest one, and nothing may be lost."""
        for point in points:
            self.nodes.become(self.start(case))
            ended = self.traced(case, strace.fail_at(point.name, point.ordinal, error, onwards=onwards))
            calls = strace.parse(self.log)
            if not any(call.injected for call in calls):
                tally.missed(point, by_chance=case in LMTP)
                continue
            elsewhere = not any(call.injected and str(self.nodes.home) in call.text for call in calls)
            if elsewhere and case in LMTP:  # in another thread, at a call that is not about the spool
                tally.missed(point, by_chance=True)
                self.judge(case, point, tally, told_yes=self.nodes.told_yes)
                continue
            tally.hit(f"exit {ended.code}")
            if ended.code not in (0, 75):
                tally.wrong(point, f"an error of the medium has to end with 0 or 75: {ended}")
            if not onwards and (again := matrix.synced_again(calls)):
                tally.wrong(point, f"fsync was tried again after it failed: {again}")
            self.judge(case, point, tally, told_yes=ended.code == 0)

    def judge(self, case: Case, point: Point, tally: Tally, *, told_yes: bool = False) -> None:
        """Check the state as it is, then follow it to its end and check what arrived.

        Every variant of what may come next is followed after a kill of a hand-in by a pipe, whose points are few, and
        after any kill in the full matrix; otherwise the points take turns with them.
        """
        try:
            self.nodes.assert_nothing_torn()
        except Torn as torn:
            tally.wrong(point, torn)
        variants = list(case.follow.items())
        if told_yes and case.handed:
            variants = [("told yes, so not repeated", lambda nodes: [])]
        elif tally.counts["kind"] != "kill" or not (case in DELIVER or matrix.full()):
            variants = [variants[tally.counts["points"] % len(variants)]]
        here = self.nodes.save(self.saved / "after") if len(variants) > 1 else None
        for variant, steps in variants:
            if here is not None:
                self.nodes.become(here)
            try:
                self._follow(case, steps(self.nodes), twice=tally.counts["points"] % 10 == 0 or matrix.full())
            except AssertionError as wrong:
                tally.wrong(point, f"{variant}: {wrong}")

    def _follow(self, case: Case, steps: list[Step], *, twice: bool) -> None:
        """Run ``steps`` and a round of all timers, or two: after the first nothing may be left to do."""
        nodes = self.nodes
        handed = {step.stdin for step in steps if step.program in {"deliver", "lmtp"}}
        messages = list(case.accepted)
        for extra in (*([case.handed] if case.handed else []), FOUR):
            if extra not in messages and (extra is case.handed or nodes.hand_in(extra).stdin in handed):
                messages.append(extra)
        for step in steps:
            ended = nodes.run(step)
            # What another stage has left half done may be for later, but not for the MTA that repeats itself.
            assert ended.code == 0 or (ended.code == 75 and step.program not in {"deliver", "lmtp"}), str(ended)
            nodes.assert_nothing_torn()
        for step in nodes.round() * (2 if twice else 1):
            nodes.must(step)
        nodes.assert_nothing_torn()
        nodes.assert_arrived(messages)
