//! A proxy under test: a process on a core of its own, and what the kernel counts of it.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gateway::clock;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Failure, cores};

/// How long a proxy may take until it listens: a bundle of ten thousand policies is checked policy by policy.
pub(crate) const START_MAX: Duration = Duration::from_secs(120);
/// How long it may take to end when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A program, started by the words of an instrument where there are some.
#[must_use]
pub(crate) fn under(words: &[String], program: &Path) -> Command {
    let mut all = words.iter().map(OsStr::new).chain([program.as_os_str()]);
    let mut command = Command::new(all.next().unwrap_or_default());
    command.args(all);
    command
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts it on one core, silent, and waits until it listens.
    ///
    /// # Errors
    /// It does not start, or ends before it listens.
    pub(crate) fn start(core: usize, command: &mut Command, listens: SocketAddr) -> Result<Self, Failure> {
        Self::start_within(core, command, listens, START_MAX)
    }

    /// The same, with more patience: a process under an instrument is slow.
    ///
    /// # Errors
    /// It does not start, or ends before it listens.
    pub(crate) fn start_within(
        core: usize,
        command: &mut Command,
        listens: SocketAddr,
        patience: Duration,
    ) -> Result<Self, Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let name = command.get_program().display().to_string();
        let mut process = Self { child: cores::spawn_on(core, command)? };
        let begun = clock::instant();
        while TcpStream::connect(listens).is_err() {
            if let Some(status) = process.child.try_wait()? {
                return Err(format!("{name} ended before it listened: {status}").into());
            }
            if begun.elapsed() > patience {
                return Err(format!("{name} does not listen after {} s", patience.as_secs()).into());
            }
            pause(LOOK);
        }
        Ok(process)
    }

    /// Waits until it has written a file.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn wait_for(&self, file: &std::path::Path) -> Result<(), Failure> {
        let begun = clock::instant();
        while !file.is_file() {
            if begun.elapsed() > START_MAX {
                return Err(format!("{} is not written", file.display()).into());
            }
            pause(LOOK);
        }
        Ok(())
    }

    /// Its process id.
    #[must_use]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time that its threads have used, in nanoseconds: what the scheduler counts (the kernel's
    /// `Documentation/scheduler/sched-stats.rst`), because a tick of `stat` is a tenth of what is measured. A thread that has
    /// ended meanwhile is not in it; a proxy's workers do not end.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(crate) fn cpu_ns(&self) -> Result<u64, Failure> {
        let mut spent = 0_u64;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // One that has ended since the folder was read has no file any more.
            let Ok(told) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            spent += told.split_whitespace().next().ok_or("/proc tells no processor time")?.parse::<u64>()?;
        }
        if spent == 0 { Err("this kernel does not count processor time by thread".into()) } else { Ok(spent) }
    }

    /// Memory that it holds, in bytes.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Failure> {
        memory(self.child.id(), "VmRSS:")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.signal(Signal::TERM)?;
        let begun = clock::instant();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > STOP_MAX {
                return Err("a process does not end".into());
            }
            pause(LOOK);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A port of loopback that nobody listens on at this moment.
///
/// # Errors
/// None is left.
pub(crate) fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Waits.
#[expect(clippy::disallowed_methods, reason = "no runtime's worker waits here, only the one who measures")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// The command of this name in the search path.
#[must_use]
pub(crate) fn found(name: &str) -> Option<std::path::PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the search path is the machine's, not the gateway's")]
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What the kernel says of a process's memory under this name (proc(5)), in bytes.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn memory(process: u32, name: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes: u64 = line.and_then(|line| line.split_whitespace().next()).unwrap_or_default().parse()?;
    Ok(kibibytes * 1024)
}
