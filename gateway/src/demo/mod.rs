//! The demo: a gateway with keys and accounts of its own before an upstream that tells what it saw.

pub mod announce;
pub mod caller;
pub mod credentials;
pub mod directory;
pub mod settings;
pub mod standin;
pub mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;

/// What `cedargate demo` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Where the gateway listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where health and metrics answer
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,
    /// Where keys, accounts, policies and logs are kept; made when it is not there
    #[arg(long, value_name = "DIRECTORY", default_value = "cedargate-demo")]
    pub data_dir: PathBuf,
    /// A BotServer to stand before, instead of the stand-in
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// Let the demo listen, or have its upstream, off loopback
    #[arg(long)]
    pub expose_demo: bool,
}
