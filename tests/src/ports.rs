//! Ports that nobody else uses while we do.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Below what the kernel gives to whoever asks for any port: between our choice and the gateway's listening, a
/// stand-in or a client of the same test would be given it.
const RANGE: std::ops::Range<u16> = 16_384..32_000;

/// A port of the loopback interface, ours until this value is dropped.
///
/// The gateway listens with `SO_REUSEPORT`, so two of them could share a port without an error and
/// answer each other's tests. A file lock keeps every other harness on this machine away.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes a port on which nothing listens.
    #[must_use]
    pub fn take() -> Self {
        let locks = std::env::temp_dir().join("cedargate-test-ports");
        std::fs::create_dir_all(&locks).expect("a directory for locks");
        // Tests run side by side begin their search in different places.
        let first = usize::try_from(std::process::id()).unwrap_or_default().wrapping_mul(31);
        for offset in 0..RANGE.len() {
            let number =
                RANGE.start + u16::try_from(first.wrapping_add(offset) % RANGE.len()).expect("in range");
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(locks.join(number.to_string()))
                .expect("a lock file");
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("every port from {RANGE:?} is taken");
    }

    /// Where a server on this port is reached.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
