//! Connections to one address of an upstream that wait for their next request.
//!
//! pingora's pool gives every waiting connection a task that watches it: one task made, woken and ended for each request.
//! Here a connection that waits is looked at when it is taken, and once a round by whoever watches the upstreams.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::http1::ClientSession;

/// Connections that wait at one address, at most. A burst leaves no more than these behind.
const IDLE_MAX: usize = 1024;

/// The waiting connections of one address; the one that waited least is taken first, so that what is not needed any
/// more grows old.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: Box<ClientSession>,
    since: Instant,
}

impl Pool {
    /// A connection that has waited for less than `age_max`, and whose other end has neither closed it nor spoken.
    pub fn take(&self, now: Instant, age_max: Duration) -> Option<Box<ClientSession>> {
        loop {
            let mut idle = self.idle().pop()?;
            if idle.waits_well(now, age_max) {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection for another request. Whatever the upstream sends past its answer would be read as the answer to the
    /// next: such a connection is closed when it is looked at.
    pub fn put(&self, connection: Box<ClientSession>, now: Instant) {
        let mut waiting = self.idle();
        if waiting.len() < IDLE_MAX {
            waiting.push(Idle { connection, since: now });
        }
    }

    /// Closes those that have waited too long, and those that the other end has closed.
    pub fn sweep(&self, now: Instant, age_max: Duration) {
        // Closed past the lock: nobody's request waits for it.
        let ended: Vec<Idle> = self.idle().extract_if(.., |idle| !idle.waits_well(now, age_max)).collect();
        drop(ended);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn waits_well(&mut self, now: Instant, age_max: Duration) -> bool {
        now.saturating_duration_since(self.since) < age_max && self.connection.waits()
    }
}

#[cfg(test)]
mod tests {
    use pingora_core::protocols::l4::stream::Stream as L4Stream;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A connection's two ends.
    async fn connection(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    fn session(connection: TcpStream) -> Box<ClientSession> {
        Box::new(ClientSession::new(Box::new(L4Stream::from(connection)), MINUTE, MINUTE))
    }

    #[tokio::test]
    async fn a_connection_waits_until_it_is_old_or_its_other_end_acts() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (pool, now) = (Pool::default(), crate::clock::instant());
        let (one, _their_one) = connection(&listener).await;
        let (other, _their_other) = connection(&listener).await;
        let (one, other) = (session(one), session(other));
        let second = std::ptr::from_ref(&*other);
        pool.put(one, now);
        pool.put(other, now + Duration::from_secs(1));
        let later = now + Duration::from_secs(2);
        let taken = pool.take(later, MINUTE).unwrap();
        assert_eq!(std::ptr::from_ref(&*taken), second, "the youngest first");
        let old = now + MINUTE;
        assert!(pool.take(old, MINUTE).is_none(), "the other has waited for a minute");

        for spoken in [false, true] {
            let (ours, mut theirs) = connection(&listener).await;
            if spoken {
                theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            } else {
                drop(theirs);
            }
            // What the other end does is seen once the runtime has looked at the socket.
            ours.readable().await.unwrap();
            pool.put(session(ours), now);
            assert!(pool.take(now, MINUTE).is_none(), "what acts before it is asked is not kept: {spoken}");
        }
    }

    #[tokio::test]
    async fn a_sweep_closes_what_is_old() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (pool, now) = (Pool::default(), crate::clock::instant());
        let mut theirs = Vec::new();
        for number in 0..4 {
            let (ours, other) = connection(&listener).await;
            theirs.push(other);
            pool.put(session(ours), now + Duration::from_secs(number));
        }
        pool.sweep(now + Duration::from_secs(61), MINUTE);
        assert_eq!(pool.idle().len(), 2, "two have waited for a minute");
        pool.sweep(now + MINUTE * 2, MINUTE);
        assert_eq!(pool.idle().len(), 0);
    }
}
