//! The program as a process: a call that is being built, a running one, and its outcome.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::passed_over;
use super::report::Summary;

/// Longer than any test's run: a run that hangs is killed, and the test fails with its output.
const PATIENCE: Duration = Duration::from_secs(240);

/// Whether tests can be other users, as root can. If not, it is told that they are passed over.
pub fn can_be_another_user() -> bool {
    let changed = Command::new("setpriv")
        .args(["--reuid=54321", "--clear-groups", "true"])
        .status();
    let can = changed.is_ok_and(|status| status.success());
    if !can {
        passed_over("what another user could do, without the right to become one");
    }
    can
}

/// A call that is being built.
pub struct Call {
    command: Command,
    args: Vec<OsString>,
    stdin: Option<Vec<u8>>,
    stdin_from: Option<Stdio>,
    is_more_to_come: bool,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
    shell: Option<String>,
}

impl Call {
    /// The program in this directory, which is also its home; it sees none of this machine's settings.
    pub fn new(directory: &Path, args: Vec<OsString>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zim-batch"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .current_dir(directory)
            .env("HOME", directory)
            .env("PATH", path);
        command.env("XDG_RUNTIME_DIR", directory).env("RUST_BACKTRACE", "1");
        // Runs of other tests for the same app are not noticed.
        command.env("ZIM_LOCK_DIR", directory);
        Self {
            command,
            args,
            stdin: None,
            stdin_from: None,
            is_more_to_come: false,
            stdout: None,
            stderr: None,
            shell: None,
        }
    }

    /// Started by a shell after these words: `ulimit -n 24; exec`, or a command that starts another.
    pub fn started_by(mut self, words: &str) -> Self {
        self.shell = Some(words.to_owned());
        self
    }

    /// Started as another user: see [`can_be_another_user`].
    pub fn by_user(self, id: u32) -> Self {
        self.started_by(&format!("exec setpriv --reuid={id} --clear-groups"))
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// A flag with a value, in the place of an earlier one.
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.args.extend([name.into(), value.into()]);
        self
    }

    /// Removes a flag and its value.
    pub fn without(mut self, name: &str) -> Self {
        if let Some(index) = self.args.iter().position(|arg| arg == name) {
            self.args.drain(index..index + 2);
        }
        self
    }

    pub fn env(self, name: &str, value: &str) -> Self {
        self.env_os(name, OsStr::new(value))
    }

    /// A variable that need not be UTF-8.
    pub fn env_os(mut self, name: &str, value: &OsStr) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Like `stdin`, but the pipe stays open while the program runs.
    pub fn open_stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.is_more_to_come = true;
        self.stdin(bytes)
    }

    /// Redirects stdin: from another program, say.
    pub fn stdin_from(mut self, from: impl Into<Stdio>) -> Self {
        self.stdin_from = Some(from.into());
        self
    }

    /// Redirects stdout, instead of capturing it.
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.stdout = Some(to.into());
        self
    }

    /// Redirects stderr, instead of capturing it.
    pub fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.stderr = Some(to.into());
        self
    }

    /// Runs to the end.
    pub fn run(self) -> Outcome {
        self.spawn().wait()
    }

    /// Starts the program.
    pub fn spawn(mut self) -> Running {
        let stdin = if self.stdin.is_some() {
            Stdio::piped()
        } else {
            self.stdin_from.take().unwrap_or_else(Stdio::null)
        };
        if let Some(words) = &self.shell {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{words} \"$0\" \"$@\"")]);
            shell.arg(self.command.get_program()).env_clear();
            let variables = self.command.get_envs();
            shell.envs(variables.filter_map(|(name, value)| Some((name, value?))));
            shell.current_dir(self.command.get_current_dir().expect("it was set"));
            self.command = shell;
        }
        self.command
            .args(&self.args)
            .stdin(stdin)
            .stdout(self.stdout.take().unwrap_or_else(Stdio::piped))
            .stderr(self.stderr.take().unwrap_or_else(Stdio::piped));
        let started = Instant::now();
        let mut child = self.command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take();
        if let (Some(pipe), true, Some(bytes)) = (&mut stdin, self.is_more_to_come, &self.stdin) {
            pipe.write_all(bytes).expect("a few lines fit into a pipe");
        } else if let (Some(mut pipe), Some(bytes)) = (stdin.take(), self.stdin) {
            thread::spawn(move || pipe.write_all(&bytes).ok()); // it may well stop reading early
        }
        let stdout = child.stdout.take().map(drain);
        let stderr = child.stderr.take().map(drain);
        Running {
            child,
            _stdin: stdin,
            started,
            stdout,
            stderr,
        }
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The program while it runs; killed when dropped.
pub struct Running {
    child: Child,
    /// Closed when this is dropped.
    _stdin: Option<ChildStdin>,
    started: Instant,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Sends a signal by its name: `INT`, `TERM`, `KILL` and so on.
    pub fn signal(&self, name: &str) {
        let signal = match name {
            "CONT" => Signal::CONT,
            "HUP" => Signal::HUP,
            "INT" => Signal::INT,
            "KILL" => Signal::KILL,
            "QUIT" => Signal::QUIT,
            "STOP" => Signal::STOP,
            "TERM" => Signal::TERM,
            "USR1" => Signal::USR1,
            _ => panic!("no such signal: {name}"),
        };
        kill_process(Pid::from_child(&self.child), signal).expect("the process has not been waited for");
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits, while the program runs, until a condition is true.
    pub fn wait_until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(self.is_running(), "the program ended before {what}");
            assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The peak resident memory so far, in KiB; `None` after the program has ended.
    pub fn peak_memory_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .ok()
    }

    /// Waits for the end. A process killed by signal N has status -N.
    pub fn wait(mut self) -> Outcome {
        let mut was_killed = false;
        while self.is_running() {
            if self.started.elapsed() > PATIENCE && !was_killed {
                self.child.kill().ok();
                was_killed = true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        let elapsed = self.started.elapsed();
        let status = self.child.wait().expect("it is our child");
        let text = |handle: Option<JoinHandle<String>>| handle.map(|h| h.join().expect("it only reads"));
        let stdout = text(self.stdout.take()).unwrap_or_default();
        let stderr = text(self.stderr.take()).unwrap_or_default();
        assert!(
            !was_killed,
            "still running after {PATIENCE:?}\nstdout: {stdout}\nstderr: {stderr}"
        );
        let status = status.code().unwrap_or_else(|| -status.signal().unwrap_or_default());
        Outcome {
            status,
            stdout,
            stderr,
            elapsed,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How a call ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
}

impl Outcome {
    /// Panics with the complete output unless the exit status is this one.
    #[track_caller]
    pub fn assert_status(&self, status: i32) -> &Self {
        assert_eq!(
            self.status, status,
            "exit status\nstdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    /// Panics unless all of these are on stderr, in any case.
    #[track_caller]
    pub fn assert_says(&self, parts: &[&str]) -> &Self {
        let said = self.stderr.to_lowercase();
        for part in parts {
            assert!(
                said.contains(&part.to_lowercase()),
                "stderr lacks `{part}`: {}",
                self.stderr
            );
        }
        self
    }

    /// Panics unless all of these are on stderr or, as the reason in a summary, on stdout, in any case.
    #[track_caller]
    pub fn assert_tells(&self, parts: &[&str]) -> &Self {
        let said = format!("{}{}", self.stderr, self.stdout).to_lowercase();
        for part in parts {
            assert!(
                said.contains(&part.to_lowercase()),
                "neither stderr nor stdout tells `{part}`: {self:?}"
            );
        }
        self
    }

    /// Panics unless stderr or the summary mentions the AppId, in any spelling.
    #[track_caller]
    pub fn assert_names_the_app_id(&self) -> &Self {
        let letters: String = format!("{}{}", self.stderr, self.stdout)
            .to_lowercase()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        assert!(
            letters.contains("appid"),
            "stderr says nothing of the AppId: {}",
            self.stderr
        );
        self
    }

    /// The summary on stdout, which must be one JSON object, add up and agree with the exit status.
    #[track_caller]
    pub fn summary(&self) -> Summary {
        let value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no summary: {error}\nstdout: {}\nstderr: {}", self.stdout, self.stderr));
        let summary = Summary(value);
        summary.assert_adds_up();
        assert_eq!(summary.0["exit"].as_i64(), Some(self.status.into()), "{summary:?}");
        summary
    }
}
