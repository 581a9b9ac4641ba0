//! Programs of others that tests try the gateway with. `tests/run` installs them.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::ports::Port;
use crate::wait::{self, PATIENCE};

/// What is installed below `peers` in the target directory.
#[must_use]
pub fn installed(path: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test's own path");
    let target = test.ancestors().nth(3).expect("target/<profile>/deps/<test>");
    let program = target.join("peers").join(path);
    assert!(program.exists(), "{} is not there: tests/run installs it", program.display());
    program
}

/// Tells what a program has written into its folder's `output`, where the test that tries it fails.
pub(crate) fn last_words(who: &str, folder: &Path) {
    if std::thread::panicking() {
        let output = std::fs::read_to_string(folder.join("output")).unwrap_or_default();
        eprintln!("--- {who} said:\n{output}");
    }
}

/// Whether Prometheus' own checker accepts a text of metrics, and what it says.
#[must_use]
pub fn promtool(metrics: &str) -> (bool, String) {
    let mut checker = Command::new(installed("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    checker.stdin.take().expect("stdin is piped").write_all(metrics.as_bytes()).expect("it reads");
    let output = checker.wait_with_output().expect("its end");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// A collector that is not ours: rotel, which prints everything that it takes. Killed when dropped.
#[derive(Debug)]
pub struct Rotel {
    child: Child,
    folder: TempDir,
    ports: [Port; 2],
}

impl Rotel {
    /// Starts one and waits until it listens.
    #[must_use]
    pub fn start() -> Self {
        let (folder, ports) = (TempDir::new().expect("a folder"), [Port::take(), Port::take()]);
        let output = File::create(folder.path().join("output")).expect("a file for its output");
        let child = Command::new(installed("rotel/rotel/rotel-agent"))
            .args(["start", "--exporter", "blackhole", "--debug-log-verbosity", "detailed"])
            .args(["--debug-log", "logs", "--debug-log", "traces", "--debug-log", "metrics"])
            .arg("--pid-file")
            .arg(folder.path().join("pid"))
            .arg(format!("--otlp-http-endpoint={}", ports[0].address()))
            .arg(format!("--otlp-grpc-endpoint={}", ports[1].address()))
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("its output once more"))
            .stdout(output)
            .spawn()
            .expect("rotel runs");
        let rotel = Self { child, folder, ports };
        wait::until("rotel", PATIENCE, || TcpStream::connect(rotel.ports[0].address()).ok());
        rotel
    }

    /// As the gateway is told of it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.ports[0].address())
    }

    /// Everything that it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        let output: &Path = &self.folder.path().join("output");
        String::from_utf8_lossy(&std::fs::read(output).unwrap_or_default()).into_owned()
    }

    /// Waits for one thing that it took (a log record, a span, a metric) whose lines hold every part.
    pub fn wait(&self, what: &str, kind: &str, parts: &[&str]) {
        wait::until(what, PATIENCE, || {
            let output = self.output();
            // Each begins with its kind and a number, and ends where the next begins.
            output.split(&format!("\n{kind} #")).skip(1).find_map(|thing| {
                let thing = thing.split("\nResource").next().unwrap_or_default();
                parts.iter().all(|part| thing.contains(part)).then_some(())
            })
        });
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- rotel said:\n{}", self.output());
        }
    }
}
