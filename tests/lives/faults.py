#!/usr/bin/env python3
"""Puts deliberate faults into a copy of the source, one at a time, and lets lives look for each.

Usage: tests/lives/faults.py DIRECTORY [NAME…]: the copy and its build go there. Prints a table in Markdown. Each fault is a
text that stands exactly once in a file, and what replaces it.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

# How long lives look for a fault, in seconds, and the first seed.
SECONDS = int(os.environ.get("ZIM_FAULT_SECONDS", "60"))
FIRST = os.environ.get("ZIM_FIRST_LIFE", "1")

FAULTS = [
    ("a record is written twice", "src/journal/report.rs",
     "records.push(&line);", "records.push(&line);\n            if record.line % 64 == 9 { records.push(&line); }"),
    ("a record is left out", "src/journal/report.rs",
     "let line = ReportRecord::new(record, self.kind, self.is_simulated);",
     "if record.line % 64 == 9 { return; }\n        let line = ReportRecord::new(record, self.kind, self.is_simulated);"),
    ("an outside row is not copied", "src/journal/report.rs",
     "&& record.outcome == Outcome::Outside", "&& record.outcome == Outcome::Outside\n            && record.line % 8 != 3"),
    ("resuming keeps a torn record", "src/journal/opening.rs",
     "        report.continue_from(earlier.len)?;\n        let outside", "        let outside"),
    ("resuming does not complete the outside log", "src/journal/outside.rs",
     "    while has_more {\n        appender", "    while has_more && kept > 1_000_000 {\n        appender"),
    ("resuming ignores the report", "src/journal/report.rs",
     "            done: earlier.done,", "            done: Done::default(),"),
    ("a user's record is written before the rows", "src/journal/report.rs",
     "        if let Some(rows) = &mut self.rows {\n            rows.commit()?;\n        }\n        self.records.as_mut().map_or(Ok(()), Appender::commit)",
     "        self.records.as_mut().map_or(Ok(()), Appender::commit)?;\n        match &mut self.rows { Some(rows) => rows.commit(), None => Ok(()) }"),
    ("rows of users without a record stay", "src/journal/opening.rs",
     "                rows.continue_from(kept.rows)?;\n", ""),
    ("rows are cleared before they are on the disk", "src/journal/users_report.rs",
     "            self.written += pushed;", "            self.written += pushed;\n            let len = self.list.rows_len();\n            self.listed.record(len, std::mem::take(&mut self.written));"),
    ("nothing is synced during a run", "src/run/recorder.rs",
     "self.synced_at.elapsed() >= SYNC_EVERY", "self.synced_at.elapsed() >= SYNC_EVERY * 3600"),
    ("a sync that fails is ignored", "src/run/recorder.rs",
     "            Ok(Err(error)) => run.stop.report_failed(error),", "            Ok(Err(_)) => {}"),
    ("a write that fails is ignored", "src/run/recorder.rs",
     "            Err(error) => run.stop.report_failed(error),\n        }\n    }", "            Err(_) => {}\n        }\n    }"),
    ("the window is 0.9 s", "src/limiter/schedule.rs",
     "        ((SECOND + MARGIN) as f64 / self.share) as u64",
     "        (SECOND as f64 * 0.9 / self.share) as u64"),
    ("the window and the spacing are those of 0.9 s", "src/limiter/schedule.rs",
     "pub(super) const SECOND: u64 = 1_000_000;", "pub(super) const SECOND: u64 = 900_000;"),
    ("starts are spaced 10 % too closely", "src/limiter/schedule.rs",
     "        ((SECOND + STRETCH) as f64 / (self.rate", "        (SECOND as f64 * 0.9 / (self.rate"),
    ("starts are told as unused to the quota", "src/limiter/starts.rs",
     "used: made.map_or(0, |start| start.count),", "used: 0,"),
    ("an operator's limit is ignored", "src/limiter/mod.rs",
     "        self.shared.quota.as_ref()?.limit()", "        self.shared.quota.as_ref()?.limit().filter(|_| false)"),
    ("a pause does not hold what is reserved", "src/limiter/mod.rs",
     "    fn next_step(&mut self, now: Instant) -> Step {\n        if self.limit.is_pause() {",
     "    fn next_step(&mut self, now: Instant) -> Step {\n        if false {"),
    ("a quota that can't be used is taken as free", "src/limiter/mod.rs",
     "let reserved = quota.reserve(request).await;",
     "let reserved = quota.reserve(request).await.or_else(|_| Ok(Reserved::Slot(request.granted())));"),
    ("a row's Retry-After is ignored", "src/run/retry.rs",
     "        pause.max(verdict.retry_after.unwrap_or_default())", "        pause"),
    ("the run's Retry-After is ignored", "src/limiter/mod.rs",
     "self.starts.next_step(now, share, self.retry_after.not_before())", "self.starts.next_step(now, share, None)"),
    ("an in-flight permit is not returned", "src/run/row_task.rs",
     "                RetryDecision::Retry(pause) => {\n                    drop(in_flight);", "                RetryDecision::Retry(pause) => {\n                    std::mem::forget(in_flight);"),
    ("one request too many in flight", "src/run/mod.rs",
     "in_flight: Arc::new(Semaphore::new(max_in_flight)),", "in_flight: Arc::new(Semaphore::new(max_in_flight + 1)),"),
    ("a hold never ends", "src/run/breaker.rs",
     "            self.state = State::Closed;\n            return", "            if was_closed {\n                self.state = State::Closed;\n            }\n            return"),
    ("an outage is never noticed", "src/run/breaker.rs",
     "const MANY: u32 = 10;", "const MANY: u32 = 1_000_000;"),
    ("an outage uses up attempts", "src/run/breaker.rs",
     "let counts = inner.is_closed() || Signal::from(verdict) != Signal::Down;", "let counts = true;"),
    ("a refused request uses up an attempt", "src/run/retry.rs",
     "            Class::Limited => RetryDecision::Retry(self.pause(verdict)),", "            Class::Limited => self.again_unless_used_up(verdict),"),
    ("one try too few", "src/run/retry.rs",
     "        self.used + 1 >= self.max_attempts", "        self.used + 2 >= self.max_attempts"),
    ("one try too many", "src/run/retry.rs",
     "        self.used + 1 >= self.max_attempts", "        self.used >= self.max_attempts"),
    ("attempts are not counted", "src/run/row_task.rs",
     "        self.sent += was_sent;\n", ""),
    ("--give-up-after is ignored", "src/run/policy.rs",
     "        due.checked_add(self.pauses.since(start))", "        due.checked_add(self.pauses.since(start) + Duration::from_secs(3600))"),
    ("--max-duration comes too early", "src/run/policy.rs",
     "let due = self.sleeps.due(self.started_at, limit)?;", "let due = self.sleeps.due(self.started_at, limit / 2)?;"),
    ("--max-failures is one too low", "src/run/policy.rs",
     "        if let Some(max) = self.limits.max_failures", "        if let Some(max) = self.limits.max_failures.and_then(|max| std::num::NonZeroU64::new(max.get() - 1))"),
    ("--limit sends one more", "src/rows/plan/mod.rs",
     "            limit: Limit { left: selection.limit },", "            limit: Limit { left: selection.limit.map(|limit| limit + 1) },"),
    ("--dedupe does nothing", "src/rows/plan/mod.rs",
     "            dedupe: selection.dedupe.then(Dedupe::default),", "            dedupe: selection.dedupe.then(Dedupe::default).filter(|_| false),"),
    ("an ID may have 33 bytes", "src/row/error.rs",
     "pub const MAX_ID: usize = 32;", "pub const MAX_ID: usize = 33;"),
    ("a summary is off by one", "src/run/summary.rs",
     "            ok: counts[Outcome::Ok],", "            ok: counts[Outcome::Ok] + u64::from(counts[Outcome::Ok] > 40),"),
    ("a stop loses the rows that waited for a retry from the counts", "src/run/stats.rs",
     "            Event::NotRun { was_retrying } => {", "            Event::NotRun { was_retrying: true } => {}\n            Event::NotRun { was_retrying } => {"),
    ("`report` counts at most three requests of a row", "src/analysis/collector.rs",
     "let attempts = record.attempts.unwrap_or_default();", "let attempts = record.attempts.unwrap_or_default().min(3);"),
    ("a quota that was not tried since is said to be away", "src/run/recorder.rs",
     "run.limiter.unavailable_at().is_some_and(|at| at >= due);", "run.limiter.unavailable_at().is_some_and(|at| at <= due || at > due);"),
    ("a torn first line of the log of runs stays", "src/journal/run_log.rs",
     "        if !keep_earlier || read < LINE_BEGINS.len() {", "        if !keep_earlier {"),
    ("the presence of a run outlives it", "src/limiter/quota/machine/entry.rs",
     "impl Drop for Entry {\n    fn drop(&mut self) {\n        self.file.remove();", "impl Drop for Entry {\n    fn drop(&mut self) {"),
    ("the machine's quota forgets its starts when the file is replaced", "src/limiter/quota/machine/mod.rs",
     "        let is_lost = found.is_none() && (state.has_used_file || state.has_joined_others);",
     "        let is_lost = false;\n        if found.is_none() { state.own = Schedule::default(); }"),
    ("the window and the spacing of Redis are those of 0.9 s", "src/limiter/quota/redis/starts.lua",
     "local common_rate = rate\n", "local common_rate = rate\nSECOND, STRETCH = 900000, 0\n"),
    ("presence is not removed from Redis", "src/limiter/quota/redis/runs.lua",
     "if what == 'leave' then\n    redis.call('HDEL', KEYS[1], run)", "if what == 'leave' then\n    redis.call('TIME')"),
    ("a key of another type in Redis is taken as free", "src/limiter/quota/redis/starts.lua",
     "text, wrong = read('GET', KEYS[1])\nif wrong then return wrong end", "text, wrong = read('GET', KEYS[1])"),
    ("times of the future in Redis are kept", "src/limiter/quota/redis/starts.lua",
     "elseif start.at <= latest and start.till <= latest then", "elseif start.at > 0 then"),
    ("a Redis that has lost its data is not noticed", "src/limiter/quota/redis/starts.lua",
     "if what == 'reserve' and has_entry == 0 then", "if false then"),
    ("a clock of Redis that is set forward is not noticed", "src/limiter/quota/redis/server_clock.rs",
     "ahead > before + LATENESS", "ahead > before + LATENESS * 1_000_000_000"),
    ("the end of a run is not logged", "src/journal/run_log.rs",
     '                event: "end",', '                event: "ends",'),
    ("a signature that a server repeats is kept", "src/client/mod.rs",
     "            redact(text, &secrets);\n", ""),
    ("a signed URL is logged at TRACE", "src/client/in_process.rs",
     "        gate.started(started_at);", "        gate.started(started_at);\n        tracing::trace!(\"sent {}\", request.url());"),
    ("the end of a hold is not logged", "src/run/row_task.rs",
     '                tracing::warn!("the service answers again: the run continues");\n', ""),
    ("a hold is logged at each probe", "src/run/breaker.rs",
     "                self.open((pause * 2).min(MAX_PAUSE), retry_after);\n                None",
     "                self.open((pause * 2).min(MAX_PAUSE), retry_after);\n                Some(Transition::Opened)"),
    ("--until ends with 5", "src/cli/errors/exit_status.rs",
     "            StopKind::TimeLimit => ExitStatus::MaxDuration,", "            StopKind::TimeLimit => ExitStatus::Policy,"),
    ("invalid rows are forgotten by the exit status", "src/cli/errors/exit_status.rs",
     "(summary.invalid_at_all() > 0 && !ignore_invalid)", "(summary.invalid > 0 && !ignore_invalid)"),
    ("the second signal is ignored", "src/stop.rs",
     "            state.reason.get_or_insert(reason);\n            state.aborts = true;", "            state.reason.get_or_insert(reason);"),
    ("an iterator is read 200 rows ahead", "src/run/source.rs",
     "const READ_AHEAD_OF_CALLER: usize = 63;", "const READ_AHEAD_OF_CALLER: usize = 200;"),
    ("rows before an error of a source are not run", "src/run/dispatch.rs",
     "            Next::Failed(error) => {\n                if reader.is_of_caller {", "            Next::Failed(error) => {\n                if false {"),
    ("what a pipe ends with is taken for a row", "src/rows/reader.rs",
     "        if self.is_stream\n            && let", "        if false\n            && let"),
    ("old conversations are listed too", "src/client/list.rs",
     "        !self.since.is_some_and(is_old) &&", "        !self.since.is_some_and(is_old).then_some(false).unwrap_or(false) &&"),
    ("a timetable's day begins with its first entry", "src/limiter/timetable.rs",
     "last_begun.or(self.entries.last())?.rate", "last_begun.or(self.entries.first())?.rate"),
    ("a change of the zone's offset is not expected", "src/limiter/timetable.rs",
     "clocks_change.filter(|clocks_change| *clocks_change <= change)", "clocks_change.filter(|_| false)"),
    ("a rate by the clock is looked up once", "src/limiter/own_rate.rs",
     "(known.from..known.until).contains(&now.timestamp())", "known.from <= now.timestamp()"),
    ("the time in which the machine sleeps is not counted", "src/run/sleep.rs",
     "        self.sleeps.push((Instant::now(), slept));\n", ""),
    ("rows taken from an iterator are forgotten after a stop", "src/run/source.rs",
     "        // It ends before it takes another row.\n", "        received.close();\n        while received.try_recv().is_ok() {}\n"),
    ("rows that are all rejected alike do not stop a run", "src/run/policy.rs",
     "if is_new && users.len() as u64 ==", "if false && users.len() as u64 =="),
    ("an operator's limit on the machine stays after its end", "src/limiter/quota/machine/limit_file.rs",
     "            Found::Nothing => None,", "            Found::Nothing => self.limit.filter(|limit| limit.rate.is_some()),"),
    ("a row that has changed is taken as done", "src/rows/plan/resume.rs",
     "let is_same = recorded.is(row);", "let is_same = recorded.is(row) || true;"),
    ("the wait for a start counts as latency", "src/client/mod.rs",
     "started_at.unwrap_or(attempted_at).elapsed()", "attempted_at.elapsed()"),
    ("--only takes ok rows too", "src/rows/selection.rs",
     "Some(Only::Outcomes(outcomes)) => Some(outcomes.clone()),",
     "Some(Only::Outcomes(outcomes)) => Some([outcomes.clone(), vec![Outcome::Ok]].concat()),"),
    ("the time of a listed conversation is another", "src/journal/record.rs",
     "conversation.updated_at.map(humantime::format_rfc3339_millis)",
     "conversation.updated_at.map(|at| at - std::time::Duration::from_secs(3600)).map(humantime::format_rfc3339_millis)"),
    ("the rate in the summary is twice what it was", "src/run/stats.rs",
     "            rate: self.rate(elapsed),", "            rate: self.rate(elapsed) * 2.0,"),
    ("a row is tried again at once", "src/run/retry.rs",
     "let pause = self.pauses.next().unwrap_or(MAX_PAUSE);", "let pause = Duration::ZERO;"),
    ("full users are not counted", "src/run/stats.rs",
     "self.full += u64::from(record.entries.are_full());", "self.full += 0;"),
    ("a nonce is used again", "src/client/sign.rs",
     "    hex(&RandomState::new().build_hasher().finish().to_be_bytes())",
     "    hex(&(RandomState::new().build_hasher().finish() % 256).to_be_bytes())"),
    ("a plus in an ID is not encoded", "src/client/call.rs",
     ".remove(b'~');", ".remove(b'~').remove(b'+');"),
    ("of a user's list only the first page is read", "src/client/list.rs",
     "        self.next = next;\n        Ok(true)", "        self.next = next;\n        Ok(self.begun.len() < 2)"),
]


def run(command, directory, environment, seconds=None):
    """Its exit status and output; the status is None if it took too long."""
    try:
        done = subprocess.run(command, cwd=directory, env=environment, timeout=seconds, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        return None, output.decode(errors="replace") if isinstance(output, bytes) else output


def build(copy, environment):
    command = ["cargo", "test", "--test", "lives", "--locked", "--no-default-features", "--features", "redis", "--no-run"]
    status, output = run(command, copy, environment)
    binary = re.search(r"\((.*deps/lives-\w+)\)", output)
    return binary and status == 0 and binary[1], output


def main():
    top = Path(__file__).resolve().parents[2]
    directory = Path(sys.argv[1]).resolve()
    copy, names = directory / "copy", sys.argv[2:]
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(top, copy, ignore=shutil.ignore_patterns("target", ".git"))
    environment = os.environ | {"CARGO_TARGET_DIR": str(directory / "target"), "RUST_BACKTRACE": "0", "ZIM_NO_SHRINK": "1",
                                "ZIM_FIRST_LIFE": FIRST, "ZIM_LIVES": "1000000", "ZIM_NO_FAILED": "1"}
    print("| fault | found after | seed | by the promise |\n|---|---|---|---|", flush=True)
    missed = 0
    for name, path, old, new in FAULTS:
        if names and name not in names:
            continue
        file = copy / path
        text = file.read_text()
        if text.count(old) != 1:
            print(f"| {name} | not applied: its text stands {text.count(old)} times in {path} | | |", flush=True)
            missed += 1
            continue
        file.write_text(text.replace(old, new))
        binary, output = build(copy, environment)
        file.write_text(text)
        if not binary:
            errors = [line for line in output.splitlines() if line.startswith("error")]
            print(f"| {name} | not built: {errors[:2]} | | |", flush=True)
            missed += 1
            continue
        began = time.time()
        _, output = run([str(copy / binary), "every_promise", "--nocapture"], copy, environment, SECONDS)
        took = time.time() - began
        found = re.search(r"^seed (\d+): (.*?): (?=.*\n)", output, re.M)
        panicked = re.search(r"seed (\d+), life (\d+): ", output)
        if found:
            lives = f"{panicked[2]} lives, {took:.0f} s" if panicked else f"{took:.0f} s"
            print(f"| {name} | {lives} | {found[1]} | {found[2]} |", flush=True)
        else:
            missed += 1
            print(f"| {name} | **not found** in {took:.0f} s | | |", flush=True)
    print(f"\n{len(FAULTS)} faults, {missed} not found", flush=True)


if __name__ == "__main__":
    main()
