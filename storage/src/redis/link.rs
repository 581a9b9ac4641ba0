//! One connection to Redis: how it is made, and what can go wrong with it.

use std::convert::Infallible;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo,
    PushKind, RedisConnectionInfo, RedisError, TlsCertificates, Value,
};
use tokio::time::Instant;

use super::late::Late;
use super::together::Together;
use super::{Fault, IN_FLIGHT_MAX, RedisHost, RedisLogin, RedisTls, Unfound};

/// The error codes that are told as they are. A server's own words are its business, and may hold anything.
const CODES: [&str; 18] = [
    "BUSY",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "ERR",
    "EXECABORT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "ASK",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "WRONGTYPE",
];

/// A connection, and how it does.
pub(crate) struct Link {
    together: Together,
    /// Where replicas are waited for: a server answers nothing else on a connection that waits.
    lasting: Option<Arc<Together>>,
    /// The name of the script there.
    pub(crate) script: String,
    late: Late,
}

/// Hears what is said on a channel, between the answers of its connection and in their order: when an answer is there,
/// everything that was said before it was heard. It must not wait.
pub(crate) type Hear = Box<dyn Fn(&[u8]) + Send + Sync>;

/// One server, and who we are there.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) at: At,
    pub(super) tls: Option<RedisTls>,
    pub(super) login: Option<RedisLogin>,
    pub(super) database: u16,
}

/// Where it listens.
#[derive(Clone)]
pub(super) enum At {
    Tcp(RedisHost),
    #[cfg(test)]
    Unix(std::path::PathBuf),
}

/// What a new connection is for.
pub(super) struct Use<'a> {
    /// What is left there.
    pub(super) script: &'a str,
    /// The channel that is listened to, over this same connection.
    pub(super) heard: Option<(&'a str, Hear)>,
    /// Whether it has to say that it is a master before anything is left there.
    pub(super) is_master: bool,
    /// Whether replicas will be waited for.
    pub(super) lasts: bool,
}

impl Link {
    /// Connects, logs in, and leaves the script there.
    pub(super) async fn open(peer: &Peer, purpose: Use<'_>) -> Result<Self, Fault> {
        let Use { script, heard, is_master, lasts } = purpose;
        let (channel, hear) = heard.unzip();
        let mut connection = peer.connection(hear).await?;
        if is_master {
            says_that_it_is_master(&mut connection).await?;
        }
        let name: String = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(script)
            .query_async(&mut connection)
            .await
            .map_err(|error| fault(&error))?;
        if let Some(channel) = channel {
            connection.subscribe(channel).await.map_err(|error| fault(&error))?;
        }
        let lasting = if lasts { Some(Together::over(peer.second(is_master).await?).into()) } else { None };
        Ok(Self { together: Together::over(connection), lasting, script: name, late: Late::default() })
    }

    /// Where its questions come together.
    pub(crate) const fn together(&self) -> &Together {
        &self.together
    }

    /// The connection that replicas are waited for on, where they will be.
    pub(crate) fn lasting(&self) -> Option<Arc<Together>> {
        self.lasting.clone()
    }

    /// It answered.
    pub(crate) fn answered(&self) {
        self.late.none();
    }

    /// It does not answer in time what was asked at this moment and is given up now; in how many stalls in a row that was.
    pub(crate) fn was_late(&self, asked: Instant) -> u32 {
        self.late.one(asked)
    }
}

impl Peer {
    /// A new connection to it, which hears what is said there unasked, where somebody listens. It waits for as long as
    /// it is let.
    pub(super) async fn connection(&self, hear: Option<Hear>) -> Result<MultiplexedConnection, Fault> {
        // A server says something unasked in the newer protocol alone.
        let protocol = if hear.is_some() { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
        // Every wait is ours: a request's is the budget.
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(IN_FLIGHT_MAX);
        if let Some(hear) = hear {
            config = config.set_push_sender(move |said: PushInfo| -> Result<(), Infallible> {
                if let (PushKind::Message, Some(Value::BulkString(text))) = (said.kind, said.data.get(1)) {
                    hear(text);
                }
                Ok(())
            });
        }
        let connection = self.client(protocol)?.get_multiplexed_async_connection_with_config(&config).await;
        connection.map_err(|error| while_connecting(&error))
    }

    /// One more connection to what must be a master where the first had to be one: a name may lead elsewhere by now.
    async fn second(&self, is_master: bool) -> Result<MultiplexedConnection, Fault> {
        let mut connection = self.connection(None).await?;
        if is_master {
            says_that_it_is_master(&mut connection).await?;
        }
        Ok(connection)
    }

    /// Made anew for each connection: it holds the password in a form that is not wiped, and is gone with the attempt.
    fn client(&self, protocol: ProtocolVersion) -> Result<Client, Fault> {
        let mut who = RedisConnectionInfo::default()
            .set_db(self.database.into())
            .set_protocol(protocol)
            .set_skip_set_lib_name();
        if let Some(login) = &self.login {
            who = who.set_username(&login.user).set_password(login.password.expose());
        }
        let (address, certificates) = match (&self.at, &self.tls) {
            (At::Tcp(RedisHost { host, port }), None) => (ConnectionAddr::Tcp(host.clone(), *port), None),
            (At::Tcp(RedisHost { host, port }), Some(tls)) => {
                let address = ConnectionAddr::TcpTls {
                    host: host.clone(),
                    port: *port,
                    insecure: false,
                    tls_params: None,
                };
                let authorities = TlsCertificates { client_tls: None, root_cert: tls.authorities.clone() };
                (address, Some(authorities))
            }
            #[cfg(test)]
            (At::Unix(path), _) => (ConnectionAddr::Unix(path.clone()), None),
        };
        // A question is one small packet that somebody waits for.
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = address
            .into_connection_info()
            .map_err(|_| Fault::Settings)?
            .set_redis_settings(who)
            .set_tcp_settings(tcp);
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        };
        client.map_err(|_| Fault::Settings)
    }
}

/// A sentinel that lags, or that was told wrong, may name what is no master any more.
async fn says_that_it_is_master(connection: &mut MultiplexedConnection) -> Result<(), Fault> {
    let role: Value = redis::cmd("ROLE").query_async(connection).await.map_err(|error| fault(&error))?;
    let Value::Array(parts) = role else { return Err(Fault::Nonsense) };
    match parts.first() {
        Some(Value::BulkString(name)) if name == b"master" => Ok(()),
        Some(_) => Err(Fault::Unfound(Unfound::NotMaster)),
        None => Err(Fault::Nonsense),
    }
}

fn while_connecting(error: &RedisError) -> Fault {
    if error.is_connection_refusal() {
        return Fault::ConnectionRefused;
    }
    let fault = fault(error);
    if fault == Fault::Gone { Fault::Unreachable } else { fault }
}

/// What an error means to us.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add kinds; an unknown one is no answer of ours"
)]
pub(crate) fn fault(error: &RedisError) -> Fault {
    if let Some(code) = error.code() {
        if matches!(code, "WRONGPASS" | "NOAUTH") {
            return Fault::Login;
        }
        return Fault::Refused(
            CODES.into_iter().find(|known| *known == code).unwrap_or("that we do not know"),
        );
    }
    match error.kind() {
        ErrorKind::Io => Fault::Gone,
        ErrorKind::AuthenticationFailed => Fault::Login,
        ErrorKind::InvalidClientConfig => Fault::Settings,
        _ => Fault::Nonsense,
    }
}
