//! The engine inside an axum server: every request is decided by a bundle before a handler sees it.
//!
//! ```sh
//! cargo run -p engine-in-axum &
//! curl -i 127.0.0.1:3000/notes -H 'Authorization: Bearer ada-writes'
//! ```
//!
//! The layer does what the gateway does for its upstreams, as far as policy goes. It is an example and no gateway: there are
//! no sessions, limits, records or strict framing here.

mod gate;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Extension;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use engine::authz::Permit;
use engine::bundle::{Bundle, BundleSources};
use gate::{Gate, decide};
use tokio::net::TcpListener;

/// The bundle that is compiled in: this program's routes and who may use them.
const SOURCES: [(&str, &str); 6] = [
    ("schema.cedarschema", include_str!("../../bundle/schema.cedarschema")),
    ("guardrails/people.cedar", include_str!("../../bundle/guardrails/people.cedar")),
    ("grants/notes.cedar", include_str!("../../bundle/grants/notes.cedar")),
    ("entities/all.json", include_str!("../../bundle/entities/all.json")),
    ("routes/notes.toml", include_str!("../../bundle/routes/notes.toml")),
    ("routes/front.toml", include_str!("../../bundle/routes/front.toml")),
];

fn bundle() -> Result<Bundle, Box<dyn Error>> {
    let files = SOURCES.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    let loaded = Bundle::load(&BundleSources { files });
    loaded.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").into())
}

/// The server: two handlers, and the layer before all of them. What the bundle has no route for is refused by the layer, so a
/// handler that somebody adds is closed until a policy opens it.
fn server(gate: Arc<Gate>) -> Router {
    let notes = get(tell).put(tell);
    let routes = Router::new().route("/", get(tell)).route("/notes", get(tell)).route("/notes/{name}", notes);
    // A handler without a route in the bundle, to show that.
    let routes = routes.route("/forgotten", get(tell));
    routes.layer(from_fn_with_state(gate, decide))
}

/// Tells who was permitted, and by which policies: the permit is there because policy has permitted, and for no other reason.
async fn tell(Extension(permit): Extension<Permit>) -> String {
    let ids: Vec<&str> = permit.deciding().iter().map(|by| &*by.id).collect();
    format!("{}: {}\n", gate::name(permit.identity()), ids.join(", "))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let gate = Arc::new(Gate::new(bundle()?, gate::now()));
    let listener = TcpListener::bind(("127.0.0.1", 3000)).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, server(gate).into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
