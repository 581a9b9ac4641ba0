//! Which core does what: the proxy under test has one to itself, load and upstream share the other.

use std::process::{Child, Command};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Failure;

/// Two cores of this machine; the same one twice where it has no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    /// For the proxy.
    pub proxy: usize,
    /// For load and upstream.
    pub load: usize,
}

impl Cores {
    /// The first and the last core that this process may use.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(crate) fn of_machine() -> Result<Self, Failure> {
        let allowed = sched_getaffinity(None)?;
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        match (usable.first(), usable.last()) {
            (Some(first), Some(last)) => Ok(Self { proxy: *first, load: *last }),
            _ => Err("no core may be used".into()),
        }
    }
}

/// Keeps the calling thread, and what it starts from now on, on one core.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn pin(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Keeps the calling thread on one core and runs this there to its end.
///
/// # Errors
/// The kernel refuses, or what the work says.
pub(crate) fn run_on<T, F>(core: usize, work: impl FnOnce() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    pin(core)?;
    // Made before the work: sockets are registered with the runtime that they are made in.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { work().await })
}

/// Starts a process on one core. A runtime that counts its cores finds one.
///
/// # Errors
/// It does not start.
pub(crate) fn spawn_on(core: usize, command: &mut Command) -> Result<Child, Failure> {
    let started =
        std::thread::scope(|scope| scope.spawn(|| pin(core).and_then(|()| Ok(command.spawn()?))).join());
    started
        .unwrap_or_else(|_panic| Err("the thread that starts processes panicked".into()))
        .map_err(|failure| format!("{} does not start: {failure}", command.get_program().display()).into())
}
