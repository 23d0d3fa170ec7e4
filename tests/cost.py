"""What tests cost, in CPU seconds, and which are left to ``make test-long``: a pytest plugin.

A test's cost is the CPU time that this process and all that it started spend between the test's beginning and its end,
fixtures included: a server that runs before and after it counts, too. A fixture that tests share (any scope but
``function``) is nobody's own: its setup is divided evenly between the tests that ask for it, whoever comes first. What
it spends when it is torn down counts to the last of them.

    pytest --cpu-bar=10       fails where a test costs more than 10 CPU seconds. Without it a single test that is run by
                              hand is never blamed for a server that it alone had started
    @pytest.mark.long("part") a test that is long by nature: left out, but run by
    pytest --long=part        which runs these alone
"""

from collections import defaultdict
from contextlib import contextmanager

import psutil
import pytest

SHOWN = 10


def pytest_addoption(parser):
    parser.addoption("--cpu-bar", type=float, metavar="SECONDS", help="fail where a test costs more CPU seconds")
    parser.addoption("--long", metavar="PART", help="run the tests marked long(PART), which are left out otherwise")


def pytest_configure(config):
    config.addinivalue_line("markers", "long(part): long by nature; run by `make test-long PART=part` only")
    config.pluginmanager.register(Costs(config.getoption("--cpu-bar")), "costs")


def pytest_collection_modifyitems(config, items):
    part = config.getoption("--long")
    marks = [item.get_closest_marker("long") for item in items]
    chosen = [part == (mark.args[0] if mark else None) for mark in marks]
    config.hook.pytest_deselected(items=[item for item, keep in zip(items, chosen, strict=True) if not keep])
    items[:] = [item for item, keep in zip(items, chosen, strict=True) if keep]


class Spent:
    """CPU seconds of this process and of all below it since this was made; called, it tells them.

    A process that has ended is in the times of its parent, if that waited for it; else only what it had spent when it
    was last asked about is known.
    """

    def __init__(self):
        self._seconds, self._seen = 0.0, self._ask()

    def __call__(self):
        seen, now = self._seen, self._ask()
        own = sum(now[process][0] - seen.get(process, (0, 0))[0] for process in now)
        of_ended = sum(now[process][1] - seen.get(process, (0, 0))[1] for process in now)
        known = sum(own + of_ended for process, (own, of_ended) in seen.items() if process not in now)
        self._seconds += own + max(0.0, of_ended - known)
        self._seen = now
        return self._seconds

    def _ask(self):
        """By process: the seconds of its own, and those of the children that it waited for."""
        found, root = {}, psutil.Process()
        for process in (root, *root.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.Error:  # it ended just now
                continue
            found[process] = (times.user + times.system, times.children_user + times.children_system)
        return found


class Meter:
    """Charges what is spent to one account at a time: the innermost ``charging`` block's."""

    def __init__(self, clock):
        self._clock, self._last, self._open = clock, clock(), []
        self.accounts = defaultdict(float)

    @contextmanager
    def charging(self, account):
        self.settle()
        self._open.append(account)
        try:
            yield
        finally:
            self.settle()
            self._open.pop()

    def settle(self):
        now = self._clock()
        if self._open:
            self.accounts[self._open[-1]] += now - self._last
        self._last = now


class Costs:
    """Measures each test where it runs, and adds up where it is reported: with xdist these are two processes."""

    def __init__(self, bar):
        self.bar, self.meter = bar, Meter(Spent())
        self.own, self.shared, self.users = {}, defaultdict(float), defaultdict(set)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        with self.meter.charging(item.nodeid):
            yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        if fixturedef.scope == "function":
            yield
            return
        with self.meter.charging(name_of(fixturedef)):
            yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        outcome = yield
        self.meter.settle()  # before and after a teardown, too, which may be the end of servers
        if call.when == "teardown":
            report, accounts = outcome.get_result(), self.meter.accounts
            report.cpu_own = accounts.pop(item.nodeid)
            report.cpu_shared = dict(accounts)  # made for this test, and for those that come
            report.cpu_uses = [name_of(found[-1]) for found in item._fixtureinfo.name2fixturedefs.values() if found]
            accounts.clear()

    def pytest_runtest_logreport(self, report):
        if not hasattr(report, "cpu_own"):
            return
        worker = getattr(report, "worker_id", "")
        self.own[report.nodeid] = report.cpu_own
        for fixture, seconds in report.cpu_shared.items():
            self.shared[worker, fixture] += seconds
        for fixture in {*report.cpu_uses, *report.cpu_shared}:
            self.users[worker, fixture].add(report.nodeid)

    def dearest(self):
        """``(seconds, test)``, the dearest first; a test's share of its fixtures included."""
        costs = dict(self.own)
        for fixture, seconds in self.shared.items():
            for test in self.users[fixture]:
                costs[test] += seconds / len(self.users[fixture])
        return sorted(((seconds, test) for test, seconds in costs.items()), reverse=True)

    def too_dear(self):
        return [] if self.bar is None else [cost for cost in self.dearest() if cost[0] > self.bar]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session):
        is_worker = hasattr(session.config, "workerinput")
        if self.too_dear() and not is_worker and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        costs = self.dearest()
        if not costs:
            return
        terminalreporter.section("CPU seconds")
        terminalreporter.line(f"{sum(seconds for seconds, _ in costs):7.1f} all {len(costs)} tests")
        for seconds, test in costs[:SHOWN]:
            terminalreporter.line(f"{seconds:7.1f} {test}")
        for seconds, test in self.too_dear():
            words = f"{test} costs {seconds:.1f} CPU seconds; no test may cost more than {self.bar:g}"
            terminalreporter.line(f"FAILED {words}: make it cheaper, or mark it long.", red=True)


def name_of(fixturedef):
    return f"{fixturedef.baseid}::{fixturedef.argname}"
