//! The life of one bridge, from the answer 101 to its one record.

use std::time::Duration;

use engine::audit::{ClosedBy, End};
use engine::refusal::{Dependency, Refusal};
use engine::websocket::{Close, Sender};
use pingora_core::protocols::Stream;
use tokio::sync::watch;

use super::heartbeat::Heartbeat;
use super::leg::Leg;
use super::relay::{Ending, LAST_WORD, Passed, Relay};
use crate::edge::meter::Handed;
use crate::pipeline::again::Standing;
use crate::pipeline::record::Trail;
use crate::proxy::Parts;

/// For our last word to leave, and for what a side still sends to be read away.
const FAREWELL: Duration = Duration::from_millis(500);

/// A WebSocket that was let through, with its upstream's side open.
pub struct Bridge {
    pub(super) trail: Trail,
    pub(super) standing: Standing,
    pub(super) upstream: Stream,
    /// What the upstream sent behind its handshake.
    pub(super) rest: Vec<u8>,
    /// The client's answer 101.
    pub(super) answer: Vec<u8>,
    pub(super) write_timeout: Duration,
}

/// How it ended: what the record says and what each side is told.
struct Verdict {
    by: ClosedBy,
    end: End,
    code: Option<u16>,
    client: Option<Close>,
    upstream: Option<Close>,
    why: Option<String>,
    refusal: Option<Refusal>,
}

impl Bridge {
    /// Relays until one side ends it, the gateway stops, or its ground is gone; then it is recorded.
    pub async fn run(self, parts: &Parts, client: Handed, mut stop: watch::Receiver<bool>) {
        let Self { mut trail, mut standing, upstream, rest, answer, write_timeout } = self;
        let bounds = &parts.config.websockets;
        let mut relay = Relay {
            client: Leg::new(client.stream, Sender::Client, client.ahead.to_vec(), bounds.message_bytes_max),
            upstream: Leg::new(upstream, Sender::Server, rest, bounds.message_bytes_max),
            heartbeat: Heartbeat::new(bounds.ping, bounds.idle),
            rate: bounds.message_rate,
            tat: None,
            passed: Passed::default(),
            closing: None,
        };
        relay.client.outgoing.write(|out| out.extend_from_slice(&answer));
        drop(answer);
        let _open = parts.recorder.metrics.websocket_opens();
        // What the upstream has sent with its handshake is read before it is waited for more.
        let mut ending = relay.upstream_said().and_then(|()| relay.client_said()).err();
        let verdict = loop {
            if let Some(ending) = ending {
                break Verdict::of(&ending, &relay);
            }
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break Verdict::stop(),
                () = standing.due() => {
                    let used = std::mem::take(&mut relay.passed.is_used);
                    if let Err(refusal) = standing.ask(&parts.pipeline, used).await {
                        break Verdict::denied(refusal);
                    }
                }
                stepped = relay.step(write_timeout) => ending = stepped.err(),
            }
            trail.passed(relay.passed.bytes_in, relay.passed.bytes_out);
        };
        trail.passed(relay.passed.bytes_in, relay.passed.bytes_out);
        trail.socket(relay.facts(verdict.by, verdict.code));
        if let Some(refusal) = &verdict.refusal {
            trail.refused(refusal);
        }
        if let Some(why) = &verdict.why {
            trail.detail(why.clone());
        }
        // What is cut from here on is cut under its last word: it has ended as it has ended.
        trail.ends(verdict.end);
        farewell(relay, &verdict).await;
        trail.record(verdict.end);
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Without anybody left who could say so, the gateway has stopped as well.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Says the last word to both sides and lets them go.
async fn farewell(mut relay: Relay, verdict: &Verdict) {
    if let Some(close) = &verdict.client {
        relay.client.tell(Some(close));
    }
    if let Some(close) = &verdict.upstream {
        relay.upstream.tell(Some(close));
    }
    let Relay { mut client, mut upstream, .. } = relay;
    tokio::join!(
        async {
            if client.finish(FAREWELL).await.is_ok() && !client.is_done {
                client.read_away(FAREWELL).await;
            }
        },
        async {
            if let Err(error) = upstream.finish(FAREWELL).await {
                tracing::trace!(%error, "an upstream did not take the last word");
            }
        },
    );
}

impl Verdict {
    fn gateway(end: End, code: u16, reason: &str) -> Self {
        Self {
            by: ClosedBy::Gateway,
            end,
            code: Some(code),
            client: Some(Close::new(code, reason)),
            upstream: Some(Close::new(1001, "")),
            why: Some(reason.to_owned()),
            refusal: None,
        }
    }

    fn stop() -> Self {
        Self::gateway(End::Complete, 1001, "the gateway stops")
    }

    /// Codes of the range for private use: 4000 and the status that a request would be answered with.
    fn denied(refusal: Refusal) -> Self {
        let (code, reason) = match &refusal {
            Refusal::CredentialRejected(_) | Refusal::Unauthenticated => (4401, "signed out"),
            Refusal::StepUp(_) => (4401, "confirm who you are"),
            Refusal::Unavailable(
                Dependency::Sessions | Dependency::Credentials | Dependency::IdentityProvider,
            ) => (1013, "try again later"),
            Refusal::Malformed(_)
            | Refusal::Unrouted
            | Refusal::Throttled { .. }
            | Refusal::CrossSite(_)
            | Refusal::Forbidden(_)
            | Refusal::PersonNeeded(_)
            | Refusal::Undecidable
            | Refusal::QuotaSpent { .. }
            | Refusal::TooLarge { .. }
            | Refusal::Unavailable(_)
            | Refusal::NoUpstream(_)
            | Refusal::Faulted => (4403, "no longer allowed"),
        };
        Self { refusal: Some(refusal), why: None, ..Self::gateway(End::Revoked, code, reason) }
    }

    fn of(ending: &Ending, relay: &Relay) -> Self {
        let (by, code) = match relay.closing {
            Some((by, code, _)) => (by, code),
            None => (ClosedBy::Gateway, None),
        };
        let first = relay.closing.is_some();
        let silent =
            Self { by, end: End::Complete, code, client: None, upstream: None, why: None, refusal: None };
        match ending {
            // After one side's last word, the other's end without one is an end all the same.
            Ending::Closed | Ending::ClientGone | Ending::UpstreamGone if first => {
                let echo = code.filter(|code| *code != 1005).unwrap_or(1000);
                Self { client: Some(Close::new(echo, "")), upstream: Some(Close::new(echo, "")), ..silent }
            }
            Ending::Closed => silent,
            Ending::ClientGone => {
                let upstream = Some(Close::new(1001, ""));
                Self { by: ClosedBy::Client, end: End::ClientGone, upstream, ..silent }
            }
            Ending::UpstreamGone => Self {
                by: ClosedBy::Upstream,
                upstream: None,
                ..Self::gateway(End::UpstreamDied, 1014, "the service is gone")
            },
            Ending::Client(code, reason) => Self::gateway(End::Complete, *code, reason),
            Ending::Upstream(fault) => Self {
                upstream: Some(Close::new(fault.close_code(), fault.reason())),
                why: Some(format!("the upstream's frames: {}", fault.reason())),
                ..Self::gateway(End::UpstreamDied, 1014, "the service is not understood")
            },
            Ending::ClientStalled => Self::gateway(End::ClientGone, 1008, "nothing is read"),
        }
    }
}

const _: () = assert!(FAREWELL.as_millis() * 2 <= 1000 && LAST_WORD.as_secs() < 10);
