//! Asks each provider before anybody signs in there, again before what it said is old, and tells how it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Provider, Providers};
use crate::admin::health::{Health, Part, Status};

/// Between two looks at a provider. What it says is fetched once an hour; one that is away is tried this often.
const LOOK: Duration = Duration::from_secs(15);

/// Looks after the providers until `stop` says true. One that is away stops nothing but signing in there.
pub async fn watch(providers: Arc<Providers>, health: Arc<Health>, mut stop: watch::Receiver<bool>) {
    let tell = |provider: &Provider, status| health.set(Part::Provider(provider.name().clone()), status);
    for provider in providers.iter() {
        tell(provider, Status::Degraded("not asked yet".to_owned()));
    }
    if providers.all.is_empty() {
        return;
    }
    loop {
        let look = async {
            for provider in providers.iter() {
                tell(provider, look_at(provider).await);
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = look => {}
        }
        if tokio::time::timeout(LOOK, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

async fn look_at(provider: &Provider) -> Status {
    let asked = match provider.metadata().await {
        Ok(metadata) => provider.keys(&metadata, false).await,
        Err(fault) => Err(fault),
    };
    // What is kept serves on while the provider is away.
    let fault =
        asked.as_ref().err().cloned().or_else(|| provider.metadata.fault()).or_else(|| provider.keys.fault());
    match (asked, fault) {
        (Ok(keys), None) => Status::Up(format!("{} keys", keys.len())),
        (Ok(_), Some(fault)) => Status::Degraded(format!("kept metadata and keys serve on; {fault}")),
        (Err(fault), _) => Status::Degraded(format!("nobody can sign in there: {fault}")),
    }
}
