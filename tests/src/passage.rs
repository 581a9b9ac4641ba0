//! What leads to a server, and may have its answers wait.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long each answer waits: past every budget that a test gives.
const WAITS: Duration = Duration::from_millis(900);

/// Leads whoever connects to one server, until the test ends.
#[derive(Debug)]
pub struct Passage {
    address: SocketAddr,
    slow: Arc<AtomicBool>,
}

impl Passage {
    /// Leads to this server, whether or not it is there yet.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let slow = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&slow);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Where nobody listens nobody is led: the connection ends.
                if let Ok(server) = TcpStream::connect(server) {
                    lead(&client, &server, &waits);
                }
            }
        });
        Self { address, slow }
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether answers wait from now on.
    pub fn slows(&self, slow: bool) {
        self.slow.store(slow, Ordering::Release);
    }
}

/// Both ways, until either side ends.
fn lead(client: &TcpStream, server: &TcpStream, slow: &Arc<AtomicBool>) {
    let both = || [client, server].map(|side| side.try_clone().expect("a descriptor"));
    for side in both() {
        side.set_nodelay(true).expect("it is connected");
    }
    let (asking, answering, slow) = (both(), both(), Arc::clone(slow));
    std::thread::spawn(move || {
        let [mut client, mut server] = asking;
        std::io::copy(&mut client, &mut server).ok();
        end(&[client, server]);
    });
    std::thread::spawn(move || {
        let [mut client, mut server] = answering;
        let mut answer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = server.read(&mut answer) {
            if slow.load(Ordering::Acquire) {
                wait();
            }
            if client.write_all(&answer[..count]).is_err() {
                break;
            }
        }
        end(&[client, server]);
    });
}

fn end(sides: &[TcpStream]) {
    for side in sides {
        side.shutdown(Shutdown::Both).ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "that it takes so long is what is tried; nobody waits for it")]
fn wait() {
    std::thread::sleep(WAITS);
}
