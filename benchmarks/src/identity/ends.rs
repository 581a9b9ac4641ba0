//! How long a session that ends at one gateway goes on at another: for requests, and for a WebSocket that says nothing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gateway::admin::control::{Client, Reply, Verb};
use gateway::clock;
use storage::sessions::CreatedSession;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::cores::Cores;
use crate::figures::Figure;
use crate::gateways::{COUNTED, Gateways, HOST, Running, SESSIONS_UP, get_with};
use crate::load::{Connection, Target, on_core, socket};
use crate::redis::Redis;
use crate::world::PATH;
use crate::{Failure, upstream};

/// Sessions that end, one after the other.
const TRIALS: usize = 1_000;
/// Between two looks whether one has ended: what a figure may be too large by.
const LOOK: Duration = Duration::from_millis(1);
/// An end that was not seen by then is lost.
const LOST: Duration = Duration::from_secs(20);
/// The opcode of a frame that closes (RFC 6455).
const CLOSE: u8 = 0x8;

/// Milliseconds from when an end is ordered at one gateway until another refuses the session, and until a WebSocket there is
/// closed; nothing where there is no redis-server.
///
/// # Errors
/// A gateway does not start, or an end is not seen at all.
pub(super) fn figures(cores: Cores, binary: PathBuf) -> Result<Vec<Figure>, Failure> {
    let Some(redis) = Redis::start(cores.load)? else { return Ok(Vec::new()) };
    let gateways = Gateways::new(binary, upstream::start(cores.load)?)?;
    let lines = redis.lines("session.redis")?;
    let start = |name| -> Result<Running, Failure> {
        let gateway = gateways.start(cores.proxy, name, "", &format!("{COUNTED}{lines}"))?;
        gateway.tells(SESSIONS_UP)?;
        Ok(gateway)
    };
    let (here, there) = (start("here")?, start("there")?);
    let seen = on_core(cores.load, || async {
        let sessions = gateways.signed_in("people", &lines, TRIALS).await?;
        let mut seen = Vec::with_capacity(TRIALS);
        for session in &sessions {
            seen.push(ended(&here, &there, session).await?);
        }
        Ok(seen)
    })?;
    let (requests, sockets): (Vec<f64>, Vec<f64>) = seen.into_iter().unzip();
    let mut figures = of_trials("identity.end_other_gateway", requests);
    figures.extend(of_trials("identity.end_websocket", sockets));
    Ok(figures)
}

/// The median and the 99th percentile of trials.
fn of_trials(name: &str, mut trials: Vec<f64>) -> Vec<Figure> {
    trials.sort_by(f64::total_cmp);
    let p99 = trials.get(trials.len().saturating_sub(1) * 99 / 100);
    let p99 = p99.map(|p99| Figure::once(format!("{name}_p99_ms"), *p99, "ms"));
    Figure::median(format!("{name}_ms"), &trials, "ms").into_iter().chain(p99).collect()
}

/// Ends a session here that is known there, and that a WebSocket there rests on; after how many milliseconds either knows.
async fn ended(here: &Running, there: &Running, session: &CreatedSession) -> Result<(f64, f64), Failure> {
    let request = get_with(session, PATH, "");
    let target = Target { address: there.address, request: request.into_bytes().into() };
    let mut asking = Connection::open(&target).await?;
    asking.ask().await?;
    let upgrade = format!(
        "Origin: https://{HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    let open = socket(there.address, &get_with(session, "/ws", &upgrade)).await?;
    let mut control = Client::connect(&here.data).await?;
    let begun = clock::instant();
    let verb = Verb::SessionEnd { session: session.session.id };
    let ending = async { acknowledged(&control.ask(&verb).await?) };
    let refusing = refused(&mut asking, &target.request, begun);
    let all = async { tokio::try_join!(ending, refusing, closed(open, begun)) };
    let ((), refused, closed) =
        tokio::time::timeout(LOST, all).await.map_err(|_elapsed| "an end was not seen")??;
    Ok((refused, closed))
}

/// Whether what was ordered was done.
fn acknowledged(reply: &Reply) -> Result<(), Failure> {
    match reply {
        Reply::Done(_) => Ok(()),
        Reply::Refused(problem) => Err(format!("an end is refused: {}", problem.message).into()),
    }
}

/// Asks until the session is refused; after how many milliseconds that was.
async fn refused(asking: &mut Connection, request: &[u8], begun: Instant) -> Result<f64, Failure> {
    while asking.ask_for(request, |status| matches!(status, 200 | 401)).await? == 200 {
        tokio::time::sleep(LOOK).await;
    }
    Ok(since(begun))
}

/// Waits until the gateway closes a WebSocket; after how many milliseconds that was.
async fn closed(mut socket: TcpStream, begun: Instant) -> Result<f64, Failure> {
    let mut frame = [0; 128];
    loop {
        match socket.read(&mut frame).await? {
            0 => return Err("a WebSocket ended without a word".into()),
            // The first byte of a frame says what it is; what else comes is a ping.
            _ if frame.first().is_some_and(|first| first & 0x0f == CLOSE) => return Ok(since(begun)),
            _ => {}
        }
    }
}

fn since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
