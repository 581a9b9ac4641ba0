//! The ways in which a Redis is there no longer as it was.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use super::scene::Servers;
use crate::Failure;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its process has ended, and nothing listens.
    Stopped,
    /// What accepts connections at its address never answers.
    BlackHole,
    /// It answers reads, and lets writes wait (`CLIENT PAUSE`).
    Paused,
    /// Its process does not go on, and its connections stay (`kill -STOP`).
    Hung,
    /// It is busy with one command (`DEBUG SLEEP`).
    Asleep,
    /// Each of its answers is on its way for longer than the budget.
    Slow,
    /// It has become the replica of a server that is not there.
    ReadOnly,
    /// Its memory is full.
    OutOfMemory,
    /// The master is killed, and sentinels have its replica take over.
    FailOver,
}

impl Fault {
    /// Every one.
    pub(super) const ALL: [Self; 9] = [
        Self::Stopped,
        Self::BlackHole,
        Self::Paused,
        Self::Hung,
        Self::Asleep,
        Self::Slow,
        Self::ReadOnly,
        Self::OutOfMemory,
        Self::FailOver,
    ];

    /// Its name in figures.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::BlackHole => "black_hole",
            Self::Paused => "paused",
            Self::Hung => "hung",
            Self::Asleep => "asleep",
            Self::Slow => "slow",
            Self::ReadOnly => "read_only",
            Self::OutOfMemory => "out_of_memory",
            Self::FailOver => "fail_over",
        }
    }

    /// How often it is done, and for how long it is looked at each time.
    pub(super) const fn rounds(self) -> (usize, Duration) {
        match self {
            // Until sentinels have agreed that the master is gone, and on another.
            Self::FailOver => (1, Duration::from_secs(5)),
            Self::Stopped
            | Self::BlackHole
            | Self::Paused
            | Self::Hung
            | Self::Asleep
            | Self::Slow
            | Self::ReadOnly
            | Self::OutOfMemory => (3, Duration::from_millis(800)),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// It cannot be done.
    pub(super) fn breaks(self, servers: &mut Servers) -> Result<(), Failure> {
        let redis = &mut servers.redis;
        match self {
            Self::Stopped | Self::FailOver => redis.kill(),
            Self::BlackHole => {
                redis.kill();
                // The kernel accepts, and nobody reads.
                servers.hole = Some(TcpListener::bind(redis.address())?);
            }
            Self::Paused => redis.order(&["CLIENT", "PAUSE", "600000", "WRITE"])?,
            Self::Hung => redis.process().ok_or("it does not run")?.signal(Signal::STOP)?,
            Self::Asleep => servers.sleeper = Some(asleep(redis.address())?),
            Self::Slow => servers.slowed(true),
            Self::ReadOnly => redis.order(&["REPLICAOF", "127.0.0.1", "1"])?,
            Self::OutOfMemory => redis.order(&["CONFIG", "SET", "maxmemory", "1"])?,
        }
        Ok(())
    }

    /// Undoes it, where somebody has to.
    ///
    /// # Errors
    /// It cannot be undone.
    pub(super) fn mends(self, servers: &mut Servers) -> Result<(), Failure> {
        let redis = &mut servers.redis;
        match self {
            Self::Stopped => redis.restart()?,
            Self::BlackHole => {
                servers.hole = None;
                redis.restart()?;
            }
            Self::Paused => redis.order(&["CLIENT", "UNPAUSE"])?,
            Self::Hung => redis.process().ok_or("it does not run")?.signal(Signal::CONT)?,
            Self::Asleep => awake(servers.sleeper.take())?,
            Self::Slow => servers.slowed(false),
            Self::ReadOnly => redis.order(&["REPLICAOF", "NO", "ONE"])?,
            Self::OutOfMemory => redis.order(&["CONFIG", "SET", "maxmemory", "0"])?,
            Self::FailOver => {}
        }
        Ok(())
    }
}

/// For how long it sleeps: as long as it is looked at.
const SLEEP: &[u8] = b"DEBUG SLEEP 1\r\n";
/// What it says when it has slept.
const SLEPT: &[u8] = b"+OK\r\n";

/// Has it sleep; where it will say that it is awake.
fn asleep(server: std::net::SocketAddr) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(SLEEP)?;
    Ok(stream)
}

/// Waits until it is awake.
fn awake(sleeper: Option<TcpStream>) -> Result<(), Failure> {
    let mut answer = [0; SLEPT.len()];
    sleeper.ok_or("it does not sleep")?.read_exact(&mut answer)?;
    if answer == SLEPT { Ok(()) } else { Err("it does not know how to sleep".into()) }
}
