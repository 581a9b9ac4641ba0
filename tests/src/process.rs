//! One running `cedargate`: started, listened to, signalled, ended by its id.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// How long a gateway may take until it is ready: a debug build on a machine that compiles beside it.
const START: Duration = Duration::from_secs(90);
/// How long it may take to end after SIGTERM, its own drain included.
const STOP: Duration = Duration::from_secs(60);

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    /// Starts `cedargate` with these arguments and waits for its line that begins with `ready `; what it said
    /// when it ended or got nowhere instead.
    pub fn start(arguments: &[String], environment: &[(String, String)]) -> Result<Self, String> {
        let mut command = command(environment);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let output = Arc::new(Mutex::new(Vec::new()));
        let (ready, errors) = listen(&mut child, &output);
        let mut process = Self { child, output };
        if ready.recv_timeout(START).is_ok() {
            return Ok(process);
        }
        process.kill();
        // It may have ended before anybody had read why.
        errors.join().expect("its errors are read");
        Err(process.output())
    }

    /// Everything that it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// The most memory that it has held at once so far, in bytes, as the kernel counts it.
    #[must_use]
    pub fn memory_peak_bytes(&self) -> usize {
        let peak = self.status("VmHWM").expect("its peak");
        let kibibytes = peak.split_whitespace().next().and_then(|number| number.parse::<usize>().ok());
        kibibytes.expect("a number") * 1024
    }

    /// What the kernel says of it under this name (proc(5)), if it knows that name.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<String> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let value =
            |line: &str| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned());
        status.lines().find_map(value)
    }

    /// The names of its threads.
    #[must_use]
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("its threads");
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        let names = tasks.filter_map(Result::ok).filter_map(name);
        names.map(|name| name.trim().to_owned()).collect()
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the gateway is ours to signal");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait::until("the gateway's end", STOP, || self.child.try_wait().expect("our child"))
    }

    /// Kills it without a word, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `cedargate` to its end, with this environment and this on its standard input; its exit status, and its
/// output with the errors after it.
#[must_use]
pub fn cli(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> (ExitStatus, String) {
    let mut command = command(&[]);
    command.args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    // One that does not read its input closes it, which is no fault.
    child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().expect("its end");
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&text).into_owned())
}

/// The binary with nothing of our environment that it could take for its own configuration.
fn command(environment: &[(String, String)]) -> Command {
    let mut command = Command::new(binary());
    let ours = |name: &str| {
        ["BOTSERVER_", "CEDARGATE_", "ZITADEL_", "DATABASE_", "OTEL_", "RUST_LOG"]
            .iter()
            .any(|p| name.starts_with(p))
    };
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(crate::repository::root());
    command
}

/// The built binary: the one that `tests/run` names, or one that cargo builds now, so that a plain
/// `cargo test` never tries yesterday's.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("CEDARGATE_BINARY") {
            return PathBuf::from(named);
        }
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--workspace", "--bin", "cedargate", "--features", "security_tests"])
            .current_dir(crate::repository::root())
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the gateway does not build");
        let test = std::env::current_exe().expect("this test's own path");
        test.ancestors().nth(2).expect("target/<profile>/deps/<test>").join("cedargate")
    })
}

/// Collects what the child prints, and tells once when a line begins with `ready `; whoever reads its errors ends with
/// them.
fn listen(child: &mut Child, output: &Arc<Mutex<Vec<u8>>>) -> (Receiver<()>, JoinHandle<()>) {
    let (tell, ready) = sync_channel(1);
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let collected = Arc::clone(output);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            collected.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&line);
            if line.starts_with(b"ready ") {
                tell.try_send(()).ok();
            }
            line.clear();
        }
    });
    let collected = Arc::clone(output);
    let errors = std::thread::spawn(move || {
        let mut stderr = stderr;
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut chunk) {
            collected.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..count]);
        }
    });
    (ready, errors)
}
