//! Whether clients that are slow, silent or many cost one who behaves anything, and whether what is cut is recorded.

use std::fs;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gateway::clock;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::cores::Cores;
use crate::figures::{self, Figure};
use crate::load::{self, Outcome, Target};
use crate::process::pause;
use crate::served::{self, Client};
use crate::upstream::{self, LARGE};
use crate::world::{Bundle, Gateway, PATH, World};
use crate::{Failure, builds};

/// Requests a second of the one who behaves.
const RATE: NonZeroU32 = NonZeroU32::new(500).unwrap();
/// Connections that carry them.
const CONNECTIONS: u32 = 16;
/// Rounds in which that one is looked at, before each siege and in it. They end before the gateway's bound on a head (15 s)
/// cuts the first of those who besiege it.
const ROUNDS: usize = 5;
/// Attackers that share an address: the gateway takes no more than twice as many from one.
const PER_ADDRESS: usize = 1_000;
/// Between two bytes of a client that dribbles.
const DRIBBLE: Duration = Duration::from_secs(1);
/// Moments over which they are spread.
const TURNS: usize = 50;
/// For the gateway to have cut what it cuts: the longest of its bounds is 30 s unless it is set.
const CUT_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// What the command line may say.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Try what an earlier build has left in target/release instead of building it
    #[arg(long)]
    as_built: bool,
}

/// What many clients do at once.
#[derive(Clone, Copy, Debug)]
struct Siege {
    name: &'static str,
    clients: usize,
    does: Does,
}

#[derive(Clone, Copy, Debug)]
enum Does {
    /// Sends nothing.
    Nothing,
    /// Sends a head, a byte now and then.
    DribblesHead,
    /// Announces a body and sends it so.
    DribblesBody,
    /// Asks for much and reads nothing.
    ReadsNothing,
}

const SIEGES: [Siege; 4] = [
    Siege { name: "idle_connections", clients: 10_000, does: Does::Nothing },
    Siege { name: "slow_heads", clients: 1_000, does: Does::DribblesHead },
    Siege { name: "slow_bodies", clients: 1_000, does: Does::DribblesBody },
    Siege { name: "readers_that_never_read", clients: 200, does: Does::ReadsNothing },
];

impl Siege {
    /// How many of its clients are cut in a request, which is recorded.
    const fn records(&self) -> usize {
        match self.does {
            Does::Nothing => 0,
            Does::DribblesHead | Does::DribblesBody | Does::ReadsNothing => self.clients,
        }
    }
}

impl Does {
    /// What its request is recorded as having asked for.
    const fn path(self) -> &'static str {
        match self {
            Self::Nothing | Self::DribblesHead => PATH,
            Self::DribblesBody => "/api/client-errors",
            Self::ReadsNothing => LARGE,
        }
    }

    fn begins(self, target: &Target) -> String {
        let (address, path) = (target.address, self.path());
        match self {
            Self::Nothing => String::new(),
            Self::DribblesHead => format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nX-Slow: "),
            Self::DribblesBody => {
                format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 60000\r\n\r\n")
            }
            Self::ReadsNothing => format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"),
        }
    }

    const fn dribbles(self) -> bool {
        matches!(self, Self::DribblesHead | Self::DribblesBody)
    }
}

/// Besieges and prints.
///
/// # Errors
/// Something does not build, start or answer, or what was cut left no record.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let cores = Cores::of_machine()?;
    let binary = builds::cedargate(options.as_built)?;
    let world = World::make(binary, upstream::start(cores.load)?, cores.proxy)?;
    let gateway = world.start(cores.proxy, "slow", Bundle::Shipped)?;
    let (mut figures, mut faults) = (Vec::new(), Vec::new());
    let client = Client { cores, connections: CONNECTIONS, rate: RATE };
    // The first requests of all fill pools and caches.
    client.look(&gateway.target, 1)?;
    for siege in SIEGES {
        eprintln!("{} {} …", siege.clients, siege.name);
        let quiet = client.look(&gateway.target, ROUNDS)?;
        let (Looks { coming, besieged }, cut) = besieged(client, &gateway, siege)?;
        let name = format!("slow.{}", siege.name);
        let looks = [("_before", &*quiet), ("_while_they_come", &coming), ("", &besieged)];
        figures.extend(served::told(&name, &looks)?);
        figures.push(recorded_as_cut(&name, cut));
        let wanted = siege.records();
        if cut != wanted {
            faults.push(format!("{}: {wanted} were cut, {cut} of them recorded", siege.name));
        }
    }
    figures::print(&figures)?;
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

/// How the one who behaves is served in a siege.
struct Looks {
    /// While the others come, all at once: what they ask for is work, too.
    coming: Vec<Outcome>,
    /// Once they are there.
    besieged: Vec<Outcome>,
}

/// The same in a siege, and how many records say that somebody was cut.
fn besieged(client: Client, gateway: &Gateway, siege: Siege) -> Result<(Looks, usize), Failure> {
    let (begun, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let audit = gateway.directory.join("audit/audit.jsonl");
    std::thread::scope(|scope| {
        let (theirs, until, target) = (begun.clone(), over.clone(), gateway.target.clone());
        let attacking =
            scope.spawn(move || load::on_core(client.cores.load, || attack(target, siege, theirs, until)));
        let coming = client.look(&gateway.target, 1);
        while begun.load(Ordering::Acquire) < siege.clients && !attacking.is_finished() {
            pause(LOOK);
        }
        let besieged = client.look(&gateway.target, ROUNDS);
        let (wanted, since) = (siege.records(), clock::instant());
        let mut cut = recorded(&audit, siege.does.path());
        while cut.as_ref().is_ok_and(|cut| *cut < wanted) && since.elapsed() < CUT_MAX {
            pause(LOOK * 5);
            cut = recorded(&audit, siege.does.path());
        }
        over.store(true, Ordering::Release);
        attacking.join().map_err(|_panic| "the attackers panicked")??;
        Ok((Looks { coming: coming?, besieged: besieged? }, cut?))
    })
}

async fn attack(
    target: Target,
    siege: Siege,
    begun: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
) -> Result<(), Failure> {
    let mut attackers = Vec::with_capacity(siege.clients);
    for number in 0..siege.clients {
        let from = Ipv4Addr::new(127, 0, 2, u8::try_from(number / PER_ADDRESS + 1)?);
        let mut stream = load::connect(target.address, from).await?;
        stream.write_all(siege.does.begins(&target).as_bytes()).await?;
        attackers.push(stream);
        begun.fetch_add(1, Ordering::AcqRel);
    }
    // Strangers to each other: they do not send in the same moment.
    for turn in (0..TURNS).cycle() {
        if over.load(Ordering::Acquire) {
            break;
        }
        tokio::time::sleep(DRIBBLE / u32::try_from(TURNS)?).await;
        if siege.does.dribbles() {
            // Who was cut is told so by the write, and stays.
            attackers.iter_mut().skip(turn).step_by(TURNS).for_each(dribble);
        }
    }
    Ok(())
}

fn dribble(stream: &mut TcpStream) {
    drop(stream.try_write(b"a"));
}

/// How many records say that a request for this path was ended by a deadline.
fn recorded(audit: &Path, path: &str) -> Result<usize, Failure> {
    let of_it =
        |line: &&str| line.contains("\"end\":\"deadline\"") && line.contains(&format!("\"path\":\"{path}\""));
    Ok(fs::read_to_string(audit)?.lines().filter(of_it).count())
}

#[expect(clippy::cast_precision_loss, reason = "a count of one run")]
fn recorded_as_cut(name: &str, cut: usize) -> Figure {
    Figure::once(format!("{name}.recorded_as_cut"), cut as f64, "requests")
}
