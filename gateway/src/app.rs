//! The composition root: the only file that chooses adapters and wires them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::bundle::BundleFault;
use pingora_core::connectors::TransportConnector;
use storage::audit_log::{AuditLog, AuditOpenError, AuditSettings, CloseError, Mirror};
use storage::counters::Counters;
use storage::credentials::{
    Accounts, Attempts, DeviceCookies, HashingGate, HashingGateSettings, PasswordVerifier, SignIn,
};
use storage::endings::Endings;
use storage::grants::Grants;
use storage::keyring::Purpose;
use storage::sessions::Sessions;
use storage::{Keyring, Mark, OpenError, Store};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::control::{self, Backend, BindError, Operator, Reply, Verb};
use crate::admin::health::{Health, Part};
use crate::admin::metrics::Metrics;
use crate::authn::Authn;
use crate::authn::site::Sites;
use crate::config::Config;
use crate::config::fault::Faults;
use crate::config::providers::Provider;
use crate::config::settings::{Connections, UpstreamIdentity};
use crate::edge::caps::Caps;
use crate::edge::{self, Edge, descriptors};
use crate::identity::minted::Minted;
use crate::identity::{botserver, ed25519};
use crate::live::{self, Live};
use crate::named::Named;
use crate::oidc::renewal::Renewals;
use crate::oidc::{self, Providers};
use crate::pages::token::FormKey;
use crate::pages::{Pages, PagesParts};
use crate::pipeline::Pipeline;
use crate::pipeline::oracle::Oracle;
use crate::pipeline::receive::ReceiveRules;
use crate::pipeline::record::Recorder;
use crate::proxy::upstreams::{SetupError, Upstreams};
use crate::proxy::{Gateway, Parts, watch as upstream_watch};
use crate::snapshot::{self, Reloader, SnapshotCell};
use crate::telemetry::{Telemetry, TelemetryError};
use crate::{background, clock, memory, shared_limits, shared_sessions, shutdown, tls};

/// The audit log's directory in the data directory.
const AUDIT_DIRECTORY: &str = "audit";
/// The audit log's live file.
const AUDIT_FILE: &str = "audit.jsonl";

/// What is started.
pub struct Start {
    /// The checked configuration.
    pub config: Config,
    /// What the store is marked as.
    pub mark: Mark,
    /// Said on every page and in `/readyz`, for example that others can reach this demonstration.
    pub notice: Option<String>,
}

/// A gateway that serves.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where requests are taken.
    pub gateway: SocketAddr,
    /// Where health and metrics answer.
    pub admin: SocketAddr,
    /// The live file of the audit log.
    pub audit_log: PathBuf,
}

/// Why the gateway did not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No runtime, or no signals.
    #[error("the process cannot be set up")]
    Process(#[source] io::Error),
    /// The data directory cannot be made private.
    #[error("the data directory `{}` cannot be used", path.display())]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: storage::PrivateError,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] tls::TlsError),
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Store(#[from] OpenError),
    /// The credentials cannot be read.
    #[error("the credentials cannot be read")]
    Credentials(#[source] storage::StoreError),
    /// Accounts or keys are known to this gateway alone.
    #[error(transparent)]
    OwnCredentials(#[from] shared_sessions::CredentialsError),
    /// Passwords cannot be hashed.
    #[error("passwords cannot be hashed")]
    Hashing(#[from] storage::credentials::PasswordError),
    /// The audit log cannot be opened.
    #[error("the audit log cannot be opened")]
    Audit(#[from] AuditOpenError),
    /// The bundle is not well.
    #[error("the bundle in `{}` has {} fault(s)", directory.display(), faults.len())]
    Bundle {
        /// Its directory.
        directory: PathBuf,
        /// Every fault.
        faults: Vec<BundleFault>,
    },
    /// Routes and configuration do not fit each other.
    #[error("the routes and the configuration do not fit each other:\n{0}")]
    Misfit(Faults),
    /// An identity provider cannot be set up.
    #[error("an identity provider cannot be set up")]
    Provider(#[from] oidc::ClientError),
    /// An upstream cannot be set up.
    #[error("an upstream cannot be set up")]
    Upstream(#[from] SetupError),
    /// The identity key was rejected.
    #[error(transparent)]
    Identity(#[from] ed25519::SeedRejected),
    /// The metrics clash.
    #[error("the metrics cannot be registered")]
    Metrics(#[source] prometheus::Error),
    /// An address cannot be listened on.
    #[error("{address} cannot be listened on: is it taken, or not this machine's?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The control socket cannot be opened.
    #[error("the control socket cannot be opened")]
    Control(#[from] BindError),
    /// The policies cannot be watched.
    #[error("the policies cannot be watched")]
    Watch(#[from] crate::bundle_dir::watch::WatchError),
    /// Telemetry cannot begin.
    #[error("telemetry cannot begin")]
    Telemetry(#[from] TelemetryError),
    /// The audit log did not take its last records.
    #[error("the audit log could not be closed")]
    AuditClose(#[from] CloseError),
}

/// Starts a gateway, calls `ready` once it serves, and returns when a signal has ended it and everything that
/// was under way is served and recorded.
///
/// # Errors
/// When a part cannot be started, or the audit log cannot be closed.
pub fn run(start: Start, ready: impl FnOnce(&Ready)) -> Result<(), RunError> {
    tls::install_provider(start.config.tls_min_version)?;
    // The runtime is ours, so that what must outlive the listeners (the last records) does.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(RunError::Process)?;
    let outcome = runtime.block_on(serve(start, ready));
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

/// Does one verb of the control API directly on the store, decided and recorded as over the socket. Opening the store
/// holds its lock, and that alone says that no gateway runs (threat 18).
///
/// # Errors
/// The store is held, or a part cannot be opened.
pub async fn work_directly(config: &Config, verb: Verb, operator: Operator) -> Result<Reply, RunError> {
    let keyring = keyring(config);
    let store = Store::open(&config.data_dir, &keyring, Mark::Production)?;
    let sessions = shared_sessions::sessions(config, &store, &keyring, None);
    let tended = shared_sessions::reached(&sessions).await;
    let (accounts, keys) = shared_sessions::credentials(&store, &sessions);
    let cell = cell(config)?;
    let backend = Backend {
        reloader: reloader(config, cell),
        attempts: shared_sessions::attempts(config, &store, &sessions).map_err(RunError::Credentials)?,
        sessions,
        accounts,
        keys,
        audit: audit(config, None)?,
        health: None,
        counted: None,
    };
    let reply = control::execute(verb, &backend, operator, clock::now()).await;
    if let Some(tended) = tended {
        tended.abort();
    }
    backend.audit.close().await?;
    Ok(reply)
}

async fn serve(start: Start, ready: impl FnOnce(&Ready)) -> Result<(), RunError> {
    let Start { config, mark, notice } = start;
    let config = Arc::new(config);
    let stop = shutdown::stop_signal().map_err(RunError::Process)?;
    let house = House::build(&config, mark, notice).await?;
    let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let listener = bind(config.listen).await?;
    let admin = bind(config.admin_listen).await?;
    let told = Ready {
        gateway: listener.local_addr().map_err(RunError::Process)?,
        admin: admin.local_addr().map_err(RunError::Process)?,
        audit_log: config.data_dir.join(AUDIT_DIRECTORY).join(AUDIT_FILE),
    };
    let (ended, end) = watch::channel(false);
    let tasks = house.background(&config, admin, stop.clone(), end).await?;
    let edge = Arc::new(Edge::new(house.gateway.clone(), acceptor));
    memory::grows_by_small_pages();
    ready(&told);
    let draining = house.health.clone();
    let mut stopping = stop.clone();
    let drains = tokio::spawn(async move {
        if stopping.wait_for(|stop| *stop).await.is_ok() {
            draining.drain();
        }
    });
    edge.serve(listener, stop, config.shutdown_drain).await;
    shared_limits::give_back(&house.gateway).await;
    drains.abort();
    ended.send_replace(true);
    for task in tasks {
        if let Err(error) = task.await {
            tracing::warn!(%error, "a background task ended badly");
        }
    }
    let closed = house.audit.close().await;
    // After the log, so that its last records are sent as well.
    house.telemetry.close().await;
    closed?;
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    edge::bind(address).await.map_err(|source| RunError::Listen { address, source })
}

/// The parts that live as long as the gateway.
struct House {
    store: Store,
    gateway: Gateway,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    audit: AuditLog,
    sessions: Arc<Sessions>,
    attempts: Attempts,
    upstreams: Arc<Upstreams>,
    reloader: Arc<Reloader>,
    control: Arc<control::Backend>,
    telemetry: Arc<Telemetry>,
    providers: Arc<Providers>,
    renewals: Arc<Renewals>,
}

impl House {
    async fn build(config: &Arc<Config>, mark: Mark, notice: Option<String>) -> Result<Self, RunError> {
        let (cell, keyring) = (cell(config)?, keyring(config));
        let store = Store::open(&config.data_dir, &keyring, mark)?;
        let (recorder, telemetry) = recorder(config)?;
        let (audit, metrics) = (recorder.audit.clone(), recorder.metrics.clone());
        let sessions = shared_sessions::sessions(config, &store, &keyring, Some(&metrics));
        let attempts = shared_sessions::attempts(config, &store, &sessions).map_err(RunError::Credentials)?;
        let (accounts, keys) = shared_sessions::brought(config, &store, &sessions, (&audit, &cell)).await?;
        let upstreams = Arc::new(Upstreams::new(&config.upstreams)?);
        let health = Arc::new(Health::new(parts(config), notices(config, &cell, notice.as_ref())));
        let sites = Arc::new(Sites::new(&config.hosts, &config.allowed_origins));
        let ed25519 = ed25519::Signer::from_seed(keyring.derive(Purpose::UpstreamIdentity).expose())?;
        let reloader = reloader(config, cell.clone());
        let (providers, renewals) = providers(config, &store, &keyring, (&sessions, &accounts, &metrics))?;
        let authn = Authn::new(&sites, &sessions, &accounts, &keys, (&providers, &renewals), &metrics);
        let pages = Arc::new(Pages::new(PagesParts {
            sites: sites.clone(),
            sessions: sessions.clone(),
            sign_in: sign_in(&accounts, &attempts, &keyring)?,
            accounts: accounts.clone(),
            providers: providers.clone(),
            renewals: renewals.clone(),
            form_key: FormKey::new(keyring.derive(Purpose::FormToken).expose()),
            keys: ed25519.jwks(),
            metrics: metrics.clone(),
            notice,
        }));
        let pipeline = pipeline(config, cell, Arc::new(authn), &recorder);
        let control = Arc::new(control::Backend {
            accounts,
            keys,
            attempts: attempts.clone(),
            sessions: sessions.clone(),
            reloader: reloader.clone(),
            audit: audit.clone(),
            health: Some(health.clone()),
            counted: Some(control::Counted::of(&pipeline)),
        });
        let gateway = Gateway::new(Parts {
            config: config.clone(),
            pipeline,
            rules: ReceiveRules::of(config, &sites),
            recorder,
            pages,
            upstreams: upstreams.clone(),
            botserver: botserver::Signer::new(&config.keys.jwt_secret),
            ed25519,
            minted: Minted::default(),
            named: Arc::new(Named::default()),
            live: Arc::new(Live::default()),
            connector: TransportConnector::new(None),
            health: health.clone(),
            caps: caps(config),
        });
        Ok(Self {
            store,
            gateway,
            health,
            metrics,
            audit,
            sessions,
            attempts,
            upstreams,
            reloader,
            control,
            telemetry,
            providers,
            renewals,
        })
    }

    /// What runs beside the requests. `stop` ends what takes work, `end` what must see the last request out.
    async fn background(
        &self,
        config: &Config,
        admin: TcpListener,
        stop: watch::Receiver<bool>,
        end: watch::Receiver<bool>,
    ) -> Result<Vec<JoinHandle<()>>, RunError> {
        let end_of_live = end.clone();
        let mut tasks = vec![
            tokio::spawn(background::admin(admin, self.health.clone(), self.metrics.clone(), end.clone())),
            tokio::spawn(upstream_watch::watch(
                self.upstreams.clone(),
                self.health.clone(),
                self.metrics.clone(),
                config.keys.jwt_secret.clone(),
                stop.clone(),
            )),
            tokio::spawn(background::housekeeping(
                background::Kept {
                    store: self.store.clone(),
                    sessions: self.sessions.clone(),
                    attempts: self.attempts.clone(),
                    endings: self.providers.endings.clone(),
                    renewals: self.renewals.clone(),
                    audit: self.audit.clone(),
                    health: self.health.clone(),
                    metrics: self.metrics.clone(),
                    telemetry: self.telemetry.clone(),
                    gateway: self.gateway.clone(),
                },
                end,
            )),
        ];
        tasks.push(tokio::spawn(oidc::watch(self.providers.clone(), self.health.clone(), stop.clone())));
        tasks.extend(shared_limits::tended(&self.gateway, &self.health, &end_of_live));
        tasks.extend(shared_sessions::tended(&self.sessions, &self.gateway, &self.health, &end_of_live));
        let control = control::Server::bind(&config.data_dir, self.control.clone())?;
        let mut stopping = stop.clone();
        let stopped = async move { drop(stopping.wait_for(|stop| *stop).await) };
        tasks.push(tokio::spawn(control.run(stopped)));
        let reloads = background::Reloads {
            reloader: self.reloader.clone(),
            audit: self.audit.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
        };
        let watched =
            config.policies_watch.then(|| crate::bundle_dir::watch::Watch::begin(&config.policies_dir));
        tasks.push(tokio::spawn(live::follow(
            (self.gateway.live(), self.gateway.named(), self.providers.clone()),
            self.store.changes().listen(),
            self.reloader.cell().swaps(),
            end_of_live,
        )));
        let hangups = shutdown::reload_signal().map_err(RunError::Process)?;
        tasks.push(tokio::spawn(reloads.run(watched.transpose()?, hangups, stop)));
        Ok(tasks)
    }
}

fn caps(config: &Config) -> Caps {
    let max = descriptors::connections_max(&config.connections);
    Caps::new(&Connections { max, ..config.connections })
}

fn cell(config: &Config) -> Result<Arc<SnapshotCell>, RunError> {
    Ok(Arc::new(SnapshotCell::new(bundle(config)?, config.limits.clone())))
}

fn bundle(config: &Config) -> Result<engine::bundle::Bundle, RunError> {
    let directory = config.policies_dir.clone();
    let bundle = snapshot::load(&directory).map_err(|faults| RunError::Bundle { directory, faults })?;
    let misses = config.misses(&bundle);
    if misses.is_empty() { Ok(bundle) } else { Err(RunError::Misfit(Faults(misses))) }
}

fn pipeline(
    config: &Config,
    snapshot: Arc<SnapshotCell>,
    authn: Arc<Authn>,
    recorder: &Recorder,
) -> Pipeline {
    let counters = Arc::new(Counters::memory(config.limits.memory_bytes));
    let shared = shared_limits::counters(config, &recorder.metrics);
    let oracle = Oracle::new(config.oracle, recorder.audit.clone(), recorder.metrics.clone());
    let (headers, headers_on_all) = (config.limits.headers, config.limits.headers_on_all);
    let second_factor = config.second_factor;
    Pipeline { snapshot, authn, counters, shared, headers, headers_on_all, oracle, second_factor }
}

fn keyring(config: &Config) -> Keyring {
    let keyring = Keyring::from_master(config.keys.encryption.expose());
    config.keys.previous_encryption.iter().fold(keyring, |keyring, old| keyring.with_old(old.expose()))
}

fn sign_in(accounts: &Accounts, attempts: &Attempts, keyring: &Keyring) -> Result<SignIn, RunError> {
    Ok(SignIn::new(
        accounts.clone(),
        attempts.clone(),
        HashingGate::new(HashingGateSettings::default()),
        DeviceCookies::new(keyring.clone()),
        PasswordVerifier::new()?,
    ))
}

fn providers(
    config: &Config,
    store: &Store,
    keyring: &Keyring,
    (sessions, accounts, metrics): (&Arc<Sessions>, &Accounts, &Arc<Metrics>),
) -> Result<(Arc<Providers>, Arc<Renewals>), RunError> {
    let endings = Endings::open(store.clone()).map_err(RunError::Credentials)?.beside(sessions);
    let providers = Arc::new(Providers::new(&config.oidc, keyring.clone(), endings)?);
    let renewals = Renewals::open(&providers, Grants::new(store.clone()), sessions, accounts, metrics);
    Ok((providers, Arc::new(renewals.map_err(RunError::Credentials)?)))
}

fn audit(config: &Config, mirror: Option<Mirror>) -> Result<AuditLog, RunError> {
    let settings = AuditSettings { keep_days: config.audit.retain_days, ..AuditSettings::default() };
    let directory = config.data_dir.join(AUDIT_DIRECTORY);
    Ok(AuditLog::open_mirrored(&directory, settings, clock::now(), mirror)?)
}

/// Where events go, and what is handed them after the log.
fn recorder(config: &Config) -> Result<(Arc<Recorder>, Arc<Telemetry>), RunError> {
    let metrics = Arc::new(Metrics::new().map_err(RunError::Metrics)?);
    let telemetry = Arc::new(Telemetry::begin(config.telemetry.as_ref(), &metrics)?);
    let audit = audit(config, telemetry.mirror())?;
    let sampler = telemetry.sampler();
    Ok((Arc::new(Recorder { audit, metrics, cutting: Arc::default(), sampler }), telemetry))
}

fn reloader(config: &Config, cell: Arc<SnapshotCell>) -> Arc<Reloader> {
    let second_factor = config.oidc.iter().any(Provider::proves_two_factors);
    let upstreams = config.upstreams.keys().cloned();
    Arc::new(Reloader::new(cell, config.policies_dir.clone(), upstreams, second_factor))
}

fn parts(config: &Config) -> Vec<Part> {
    let mut parts = vec![Part::Store, Part::AuditLog, Part::Bundle];
    for (name, upstream) in &config.upstreams {
        parts.push(Part::Upstream(name.clone()));
        if upstream.identity == UpstreamIdentity::BotServer {
            parts.push(Part::Identity(name.clone()));
        }
    }
    parts
}

fn notices(config: &Config, cell: &SnapshotCell, notice: Option<&String>) -> Vec<String> {
    let outdone = config.outdone(&cell.current().bundle);
    config.notices().iter().chain(notice).cloned().chain(outdone).collect()
}
