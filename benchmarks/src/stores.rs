//! The stores of a gateway in this process.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use gateway::config::Config;
use gateway::config::environment::Environment;
use gateway::shared_sessions;
use storage::redis::Standing;
use storage::sessions::Sessions;
use storage::{Keyring, Mark, Store};
use tokio::task::JoinHandle;

use crate::Failure;

/// A store on disk, and sessions in it or in Redis.
pub(crate) struct Stores {
    /// The store.
    pub(crate) store: Store,
    /// Its keys.
    pub(crate) keyring: Keyring,
    /// The sessions.
    pub(crate) sessions: Arc<Sessions>,
    /// What it was made of.
    pub(crate) config: Config,
    tending: Option<JoinHandle<()>>,
}

impl Drop for Stores {
    fn drop(&mut self) {
        if let Some(tending) = &self.tending {
            tending.abort();
        }
    }
}

impl Stores {
    /// Opens them in an empty folder, by these tables of a configuration and the keys of this environment.
    ///
    /// # Errors
    /// The configuration is not taken, the store does not open, or the Redis does not answer.
    pub(crate) async fn open(
        folder: &Path,
        tables: &str,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let file = folder.join("cedargate.toml");
        let text = format!(
            "environment = \"development\"\ndata_dir = {:?}\nhosts = [{{ public_url = \"http://127.0.0.1:8080\" }}]\n{tables}",
            folder.join("data"),
        );
        fs::write(&file, text)?;
        let config = Config::load(Some(&file), environment)
            .map_err(|faults| format!("its configuration: {faults}"))?;
        let keyring = Keyring::from_master(config.keys.encryption.expose());
        let store = Store::open(folder, &keyring, Mark::Production)?;
        let sessions = shared_sessions::sessions(&config, &store, &keyring, None);
        let tending = shared_sessions::reached(&sessions).await;
        if sessions.standing().is_some_and(|standing| standing.borrow().now != Standing::Up) {
            return Err("the redis does not answer".into());
        }
        Ok(Self { store, keyring, sessions, config, tending })
    }
}
