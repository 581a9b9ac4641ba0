//! callgrind: counts the instructions of a process from outside, the same on a busy machine and on a quiet one.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Failure;
use crate::cores::Cores;
use crate::load::{self, Target};
use crate::process::{Process, found};

/// What is said where it is not here.
pub(crate) const ABSENT: &str = "valgrind is not here (Debian: valgrind)";
/// How long a start under it may take: nothing runs faster than a fortieth of its speed there.
pub(crate) const START_MAX: Duration = Duration::from_secs(300);
/// Requests that are counted.
pub(crate) const REQUESTS: u64 = 2_000;
/// Requests before anything is counted: pools fill and caches warm.
const WARMING: u64 = 400;
/// Connections that ask at once.
const CONNECTIONS: u64 = 8;

/// What was counted between two moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// Instructions in user space.
    pub instructions: u64,
    /// Calls into the allocator that ask for memory.
    pub allocations: u64,
}

/// Whether this machine can count.
#[must_use]
pub(crate) fn is_here() -> bool {
    found("valgrind").is_some() && found("callgrind_control").is_some()
}

/// What so many requests to a server that was started by [`words`] take: [`REQUESTS`].
///
/// # Errors
/// One is not answered, or callgrind cannot be told or read.
pub(crate) fn requests(
    process: &Process,
    target: &Target,
    cores: Cores,
    out: &Path,
) -> Result<Counted, Failure> {
    load::counted(cores.load, target, CONNECTIONS, WARMING)?;
    count(process.id(), out, || load::counted(cores.load, target, CONNECTIONS, REQUESTS))
}

/// The words that start a program under it, counting nothing yet.
#[must_use]
pub(crate) fn words(out: &Path) -> Vec<String> {
    ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("--callgrind-out-file={}", out.display())])
        .collect()
}

/// Counts what a process does while `work` runs.
///
/// # Errors
/// `work` fails, or the process cannot be told or read.
pub(crate) fn count(
    process: u32,
    out: &Path,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<Counted, Failure> {
    tell(process, "--instr=on")?;
    work()?;
    tell(process, "--instr=off")?;
    tell(process, "--dump")?;
    let mut dump = out.as_os_str().to_owned();
    dump.push(".1");
    read(&fs::read_to_string(PathBuf::from(dump))?)
}

fn tell(process: u32, what: &str) -> Result<(), Failure> {
    let mut command = Command::new("callgrind_control");
    let status = command.args([what, &process.to_string()]).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("callgrind_control {what}: {status}").into()) }
}

/// Reads callgrind's profile: its total, and the calls from outside the allocator into it.
fn read(profile: &str) -> Result<Counted, Failure> {
    let (mut instructions, mut allocations) = (None, 0_u64);
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut caller, mut callee) = ("", "");
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            caller = resolved(&mut names, name);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = resolved(&mut names, name);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let count: u64 = calls.split(' ').next().unwrap_or_default().parse()?;
            if allocates(callee) && !is_allocator(caller) {
                allocations += count;
            }
        } else if let Some(total) = line.strip_prefix("totals: ") {
            // The first of its columns, which is the only one unless caches are looked at too.
            instructions = Some(total.split_whitespace().next().unwrap_or_default().parse()?);
        }
    }
    let instructions = instructions.ok_or("the profile has no total")?;
    Ok(Counted { instructions, allocations })
}

/// `(12) name` names 12, `(12)` is what it named.
fn resolved<'a>(names: &mut HashMap<&'a str, &'a str>, text: &'a str) -> &'a str {
    match text.split_once(' ') {
        Some((id, name)) => {
            names.insert(id, name);
            name
        }
        None => names.get(text).copied().unwrap_or_default(),
    }
}

fn is_allocator(name: &str) -> bool {
    name.starts_with("mi_") || name.starts_with("_mi_")
}

fn allocates(name: &str) -> bool {
    name.starts_with("mi_") && name.contains("alloc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_its_total_and_the_calls_into_the_allocator() {
        let profile = "version: 1\nevents: Ir\nfn=(1) main\n1 10\ncfn=(2) mi_malloc\ncalls=3 0\n1 30\n\
                       cfn=(4) mi_free\ncalls=3 0\n1 9\n\nfn=(2)\n1 20\ncfn=(3) mi_malloc_aligned\ncalls=1 0\n1 5\n\
                       fn=(5) serve\n1 1\ncfn=(2)\ncalls=4 0\n1 40\n\ntotals: 4711\n";
        let counted = read(profile).unwrap();
        assert_eq!((counted.instructions, counted.allocations), (4711, 7));
        assert!(read("version: 1\n").is_err());
    }
}
