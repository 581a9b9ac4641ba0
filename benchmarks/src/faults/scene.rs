//! A gateway, the Redis that it shares, and what is asked of it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fault::Fault;
use super::group::Sentinels;
use crate::Failure;
use crate::cores::Cores;
use crate::gateways::{COUNTED, Gateways, LIMITS_UP, Running, SESSIONS_UP, get_with};
use crate::load::{Asked, Target, on_core};
use crate::redis::Redis;
use crate::secrets::hex;
use crate::upstream;
use crate::world::PATH;

/// What is shared there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    /// Limits: every request asks, and goes on without an answer.
    Limits,
    /// Sessions and accounts: every request comes with a session that was not asked for before, and is refused without an
    /// answer.
    Sessions,
}

/// People, each with a session that is presented in turn: more than are asked for.
const PEOPLE: usize = 3_000;

impl Shared {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Limits, Self::Sessions];

    /// Its name in figures and metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Sessions => "sessions",
        }
    }

    /// The stage that waits for it.
    pub(super) const fn stage(self) -> &'static str {
        match self {
            Self::Limits => "spend",
            Self::Sessions => "identify",
        }
    }

    /// The table that names it.
    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::Limits => "limits.redis",
            Self::Sessions => "session.redis",
        }
    }

    /// What a request may wait for it: the usual budget, in microseconds.
    pub(super) const fn budget_us(self) -> u64 {
        match self {
            Self::Limits => 5_000,
            Self::Sessions => 100_000,
        }
    }

    /// What the gateway tells while it is asked for.
    const fn up(self) -> &'static str {
        match self {
            Self::Limits => LIMITS_UP,
            Self::Sessions => SESSIONS_UP,
        }
    }

    /// For how long each answer is on its way where it is slow: three times the usual budget.
    const fn delay(self) -> Duration {
        Duration::from_micros(3 * self.budget_us())
    }

    /// Whether an answer may have this status: limits go on without their store, and nobody is signed out for want of one.
    fn may(self) -> fn(u16) -> bool {
        match self {
            Self::Limits => |status| status == 200,
            Self::Sessions => |status| matches!(status, 200 | 503),
        }
    }
}

/// The servers that a fault is of.
pub(super) struct Servers {
    /// The Redis, or the master.
    pub(super) redis: Redis,
    /// What listens in its place, and never answers.
    pub(super) hole: Option<TcpListener>,
    /// Who hears that it is awake again.
    pub(super) sleeper: Option<TcpStream>,
    slow: Arc<AtomicBool>,
    /// Goes before its master's folder.
    _sentinels: Option<Sentinels>,
}

impl Servers {
    /// Whether its answers are slow from now on, where they pass somebody who has them wait.
    pub(super) fn slowed(&self, slow: bool) {
        self.slow.store(slow, Ordering::Release);
    }
}

/// All of it.
pub(super) struct Scene {
    pub(super) servers: Servers,
    pub(super) gateway: Running,
    pub(super) target: Target,
    pub(super) asked: Asked,
    pub(super) shared: Shared,
}

impl Scene {
    /// Sets it; `None` where there is no redis-server.
    ///
    /// # Errors
    /// Something does not start.
    pub(super) fn set(
        gateways: &Gateways,
        cores: Cores,
        shared: Shared,
        fault: Fault,
    ) -> Result<Option<Self>, Failure> {
        let password = hex()?;
        // What it has acknowledged is there again when it was killed.
        let keeps = ["--appendonly", "yes", "--enable-debug-command", "local"];
        let Some(redis) = Redis::start_with(cores.load, &password, &keeps)? else { return Ok(None) };
        let slow = Arc::new(AtomicBool::new(false));
        let (table, mut sentinels) = (shared.table(), None);
        let direct = redis.lines_at(redis.address(), table)?;
        let lines = match fault {
            Fault::Slow => {
                redis.lines_at(slowing(cores.load, redis.address(), shared.delay(), slow.clone())?, table)?
            }
            Fault::FailOver => {
                sentinels.insert(Sentinels::of(cores.load, &redis, &password)?).lines(table)?
            }
            Fault::Stopped
            | Fault::BlackHole
            | Fault::Paused
            | Fault::Hung
            | Fault::Asleep
            | Fault::ReadOnly
            | Fault::OutOfMemory => direct.clone(),
        };
        let name = format!("{}-{}", shared.name(), fault.name());
        let tables = format!("{COUNTED}{lines}");
        let (gateway, target) = match shared {
            Shared::Limits => gateways.start_serving(cores.proxy, &name, "", &tables)?,
            Shared::Sessions => {
                let gateway = gateways.start(cores.proxy, &name, "", &tables)?;
                let target = Target { address: gateway.address, request: [].into() };
                (gateway, target)
            }
        };
        gateway.tells(shared.up())?;
        let requests = match shared {
            Shared::Limits => vec![target.request.clone()],
            Shared::Sessions => on_core(cores.load, || people(gateways, format!("{name}-people"), direct))?,
        };
        let next = AtomicUsize::new(0);
        let next = move || {
            let number = next.fetch_add(1, Ordering::Relaxed) % requests.len().max(1);
            requests.get(number).cloned().unwrap_or_else(|| [].into())
        };
        let asked = Asked { next: Arc::new(next), may: shared.may() };
        let servers = Servers { redis, hole: None, sleeper: None, slow, _sentinels: sentinels };
        Ok(Some(Self { servers, gateway, target, asked, shared }))
    }

    /// Waits until the gateway asks its Redis again.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn is_up(&self) -> Result<(), Failure> {
        self.gateway.tells(self.shared.up())
    }
}

/// What people ask who have signed in, each once.
async fn people(gateways: &Gateways, name: String, lines: String) -> Result<Vec<Arc<[u8]>>, Failure> {
    let sessions = gateways.signed_in(&name, &(lines + "budget = \"1s\"\n"), PEOPLE).await?;
    Ok(sessions.iter().map(|session| get_with(session, PATH, "").into_bytes().into()).collect())
}

/// Starts what leads to a server, and has each of its answers wait for so long while they are to be slow.
fn slowing(
    core: usize,
    server: SocketAddr,
    delay: Duration,
    slow: Arc<AtomicBool>,
) -> Result<SocketAddr, Failure> {
    upstream::start_answering(core, move |client| {
        let slow = slow.clone();
        async move {
            let Ok(there) = tokio::net::TcpStream::connect(server).await else { return };
            // A question that waits for the next would be slow by itself.
            drop(there.set_nodelay(true));
            let ((mut from, mut back), (mut answers, mut to)) = (client.into_split(), there.into_split());
            let asking = async move { tokio::io::copy(&mut from, &mut to).await.map(drop) };
            let answering = async move {
                let mut answer = vec![0; 64 * 1024];
                loop {
                    let count = answers.read(&mut answer).await?;
                    let Some(some @ [_, ..]) = answer.get(..count) else { return Ok(()) };
                    if slow.load(Ordering::Acquire) {
                        tokio::time::sleep(delay).await;
                    }
                    back.write_all(some).await?;
                }
            };
            // Whichever side ends, so does the other.
            let _ended: std::io::Result<()> = tokio::select! {
                ended = asking => ended,
                ended = answering => ended,
            };
        }
    })
}
