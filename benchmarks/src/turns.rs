//! Proxies that are loaded in turn, each for so short a time that a machine whose speed changes is as fast for one as for
//! the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway::clock;
use serde::Serialize;
use tokio::time::sleep;

use crate::Failure;
use crate::load::{Connection, Target, ended, on_core};
use crate::process::Process;

/// Connections that are kept busy; they stay open while others have their turn.
pub(crate) const CONNECTIONS: usize = 32;
/// How long each is loaded in a round: the speed of the machines that this was tried on changes within a second, by as
/// much as 1.7, and a proxy's caches are warm again after less than a millisecond.
const TURN: Duration = Duration::from_millis(150);
/// How long each is loaded before anything counts.
const WARM: Duration = Duration::from_millis(500);
/// Rounds at least: a median of fewer says nothing.
const ROUNDS_MIN: usize = 15;

/// Who is loaded.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// Its name in errors.
    pub(crate) name: &'a str,
    /// Its process.
    pub(crate) process: &'a Process,
    /// What is asked of it.
    pub(crate) target: &'a Target,
}

/// What one proxy has cost in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Round {
    /// Microseconds of its processor time, user and system, for each request.
    pub(crate) cpu_us: f64,
    /// Requests a second.
    pub(crate) rps: f64,
}

/// Loads each in turn, round after round, from one core: the rounds of each. Fewer than wanted where `deadline` would pass.
///
/// # Errors
/// An answer is late, cut or not a 200, or the kernel tells no processor time.
pub(crate) fn rounds(
    core: usize,
    subjects: &[Subject<'_>],
    wanted: usize,
    deadline: Instant,
) -> Result<Vec<Vec<Round>>, Failure> {
    on_core(core, || async {
        let mut standing = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let mut one = Standing { subject: *subject, connections: Vec::new() };
            for _ in 0..CONNECTIONS {
                one.connections.push(Connection::open(subject.target).await?);
            }
            one.turn(WARM).await?;
            standing.push(one);
        }
        let mut all: Vec<Vec<Round>> = subjects.iter().map(|_| Vec::with_capacity(wanted)).collect();
        for number in 0..wanted {
            if number >= ROUNDS_MIN && clock::instant() > deadline {
                eprintln!("\n{number} rounds instead of {wanted}: the time is over");
                break;
            }
            eprint!("\rround {} of {wanted} ", number + 1);
            for (one, rounds) in standing.iter_mut().zip(&mut all) {
                rounds.push(one.turn(TURN).await?);
            }
        }
        eprintln!();
        Ok(all)
    })
}

/// One of them, with its connections.
struct Standing<'a> {
    subject: Subject<'a>,
    connections: Vec<Connection>,
}

impl Standing<'_> {
    /// Keeps all connections busy for a time: the next request goes out as the answer before it is in.
    async fn turn(&mut self, time: Duration) -> Result<Round, Failure> {
        let Subject { name, process, .. } = self.subject;
        let (before, begun) = (process.cpu_ns()?, clock::instant());
        let stop = Arc::new(AtomicBool::new(false));
        let mut asking = tokio::task::JoinSet::new();
        for mut connection in self.connections.drain(..) {
            let stop = stop.clone();
            asking.spawn(async move {
                let mut requests = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    connection.ask().await?;
                    requests += 1;
                }
                Ok::<_, Failure>((connection, requests))
            });
        }
        sleep(time).await;
        stop.store(true, Ordering::Relaxed);
        let done = ended(asking).await.map_err(|failure| format!("{name}: {failure}"))?;
        let (seconds, spent) = (begun.elapsed().as_secs_f64(), process.cpu_ns()?.saturating_sub(before));
        let mut requests = 0;
        for (connection, count) in done {
            self.connections.push(connection);
            requests += count;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of one turn, far below 2^52")]
        let (spent, requests) = (spent as f64, requests.max(1) as f64);
        Ok(Round { cpu_us: spent / 1_000.0 / requests, rps: requests / seconds })
    }
}
