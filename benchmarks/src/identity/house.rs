//! A configuration, the stores that it names, a provider that tells its keys, and a Redis where there is one.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};

use gateway::config::environment::Environment;
use serde_json::json;
use tempfile::TempDir;

use crate::Failure;
use crate::redis::Redis;
use crate::secrets::{KEYS, hex, leave};
use crate::stores::Stores;

/// The name of the API that tokens are for.
pub(super) const API: &str = "https://api.example";

/// What is measured in.
pub(super) struct House {
    home: TempDir,
    environment: Environment,
    issuer: String,
    redis: Option<Redis>,
    /// The keys that the provider tells of, until they are asked for.
    keys: Arc<OnceLock<String>>,
}

impl House {
    /// With keys of this run; a redis-server runs on this core, where there is one.
    ///
    /// # Errors
    /// The system gives no folder, no port or no random bytes, or the Redis does not start.
    pub(super) fn new(core: usize) -> Result<Self, Failure> {
        let mut environment = Environment::default();
        for name in KEYS {
            environment = environment.with(name, &hex()?);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let issuer = format!("http://{}", listener.local_addr()?);
        let (home, redis) = (TempDir::new()?, Redis::start(core)?);
        let house = Self { home, environment, issuer, redis, keys: Arc::default() };
        house.provide(listener)?;
        Ok(house)
    }

    pub(super) fn has_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// The provider's name as an issuer.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// From now on the provider tells of these keys.
    pub(super) fn tells(&self, keys: String) {
        drop(self.keys.set(keys));
    }

    /// Stores of their own; sessions are in Redis where that is asked for.
    ///
    /// # Errors
    /// The configuration is not taken, the store does not open, or the Redis does not answer.
    pub(super) async fn stores(&self, name: &str, in_redis: bool) -> Result<Stores, Failure> {
        let folder = self.home.path().join(name);
        fs::create_dir(&folder)?;
        let secret = folder.join("secret");
        leave(&secret, &hex()?)?;
        let redis = match &self.redis {
            Some(redis) if in_redis => redis.lines("session.redis")?,
            Some(_) | None => String::new(),
        };
        let tables = format!(
            "{redis}[[oidc.providers]]\nname = \"corp\"\nissuer = \"{}\"\nclient_id = \"gateway\"\n\
             client_secret = \"file:{}\"\napi_audiences = [\"{API}\"]\n",
            self.issuer,
            secret.display(),
        );
        Stores::open(&folder, &tables, &self.environment).await
    }

    /// Answers what a gateway asks a provider for, on a thread that ends with the process.
    fn provide(&self, listener: TcpListener) -> Result<(), Failure> {
        let (issuer, keys) = (self.issuer.clone(), Arc::clone(&self.keys));
        let metadata = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"),
            "response_types_supported": ["code"],
        });
        let answer = move |stream: TcpStream| -> std::io::Result<()> {
            let mut reader = BufReader::new(stream.try_clone()?);
            let mut first = String::new();
            reader.read_line(&mut first)?;
            let mut line = String::new();
            while reader.read_line(&mut line)? > 2 {
                line.clear();
            }
            let body = match (first.contains(" /keys "), keys.get()) {
                (true, Some(keys)) => keys.clone(),
                (true, None) => String::new(),
                (false, _) => metadata.to_string(),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            (&stream).write_all((head + &body).as_bytes())
        };
        std::thread::Builder::new().name("provider".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever has hung up has missed something; it asks again.
                answer(stream).ok();
            }
        })?;
        Ok(())
    }
}
