//! `bare LISTEN UPSTREAM`: hands every request to one upstream and checks nothing.
//!
//! The pool and the timeouts are those that the gateway sets, so that what differs is the gateway's own work.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Idle connections that are kept to the upstream, as many as the gateway keeps.
const UPSTREAM_POOL: usize = 1024;

struct PassThrough {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(listen), Some(upstream)) => match serve(&listen, &upstream) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bare: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: bare LISTEN UPSTREAM");
            ExitCode::from(2)
        }
    }
}

fn serve(listen: &str, upstream: &str) -> Result<(), Box<dyn Error>> {
    let (listen, upstream): (SocketAddr, SocketAddr) = (listen.parse()?, upstream.parse()?);
    // One worker for each core that it is given, as the gateway's runtime does.
    let threads = std::thread::available_parallelism()?.get();
    let conf = ServerConf { threads, upstream_keepalive_pool_size: UPSTREAM_POOL, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, PassThrough { peer: peer(upstream) });
    service.add_tcp(&listen.to_string());
    server.add_service(service);
    server.run_forever()
}

fn peer(upstream: SocketAddr) -> HttpPeer {
    let mut peer = HttpPeer::new(upstream, false, String::new());
    peer.options.connection_timeout = Some(Duration::from_secs(3));
    peer.options.read_timeout = Some(Duration::from_secs(120));
    peer.options.write_timeout = Some(Duration::from_secs(30));
    peer.options.idle_timeout = Some(Duration::from_secs(60));
    peer
}
