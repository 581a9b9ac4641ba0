//! Ports that nobody else uses while we do.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

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
        for _ in 0..200 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let number = listener.local_addr().expect("its number").port();
            let locks = std::env::temp_dir().join("cedargate-test-ports");
            std::fs::create_dir_all(&locks).expect("a directory for locks");
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(locks.join(number.to_string()))
                .expect("a lock file");
            if lock.try_lock().is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("two hundred ports in a row were taken");
    }

    /// Where a server on this port is reached.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
