//! The control API over a real socket: what each verb comes to, what is recorded, and what bytes do to it.

mod late;
mod limits;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use engine::bundle::{Bundle, BundleSources};
use engine::time::UnixMillis;
use serde_json::{Value, json};
use storage::audit_log::{AuditLog, AuditSettings};
use storage::credentials::{Accounts, ApiKeys, AttemptRules, Attempts};
use storage::sessions::{NewSession, SessionRules, Sessions};
use storage::{Keyring, Store};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::line::REQUEST_BYTES_MAX;
use super::*;
use crate::admin::health::Health;
use crate::clock;
use crate::snapshot::{Reloader, SnapshotCell};

const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
const PASSWORD: &str = "correct horse battery";

/// The shipped bundle as far as it concerns operators; or one that forbids them everything.
fn sources(grant: bool) -> BundleSources {
    let mut sources = crate::bundle_dir::read(Path::new(POLICIES)).unwrap();
    // The shipped roles, and what concerns operators: every policy and route costs time at load.
    sources.files.retain(|path, _| {
        let kept = ["cedargate.toml", "cedargate.cedar", "principals.cedar", ".json", ".cedarschema"];
        kept.iter().any(|end| path.ends_with(end))
    });
    if !grant {
        let forbid = "@id(\"nobody\") @reason(\"closed\") @owner(\"tests\")\nforbid(principal is Operator, action, resource);\n";
        sources.files.insert("guardrails/nobody.cedar".to_owned(), forbid.to_owned());
    }
    sources
}

struct World {
    dir: TempDir,
    backend: Arc<Backend>,
}

impl World {
    fn new(running: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::from_master(&[7; 32]);
        let store = Store::in_memory(&keyring).unwrap();
        let rules = SessionRules { idle_ms: 60_000, absolute_ms: 600_000, per_account_max: 10 };
        let attempts = AttemptRules { attempts_max: 3, lockout_ms: 1000 };
        let cell = Arc::new(SnapshotCell::new(Bundle::load(&sources(true)).unwrap(), limits::settings()));
        let audit = dir.path().join("audit");
        let backend = Backend {
            reloader: Arc::new(Reloader::new(cell, POLICIES.into(), ["botserver".into()], false)),
            sessions: Arc::new(Sessions::memory(keyring, rules)),
            accounts: Accounts::new(store.clone()),
            keys: ApiKeys::new(store.clone()),
            attempts: Attempts::open(store, attempts).unwrap(),
            audit: AuditLog::open(&audit, AuditSettings::default(), clock::now()).unwrap(),
            health: running.then(|| Arc::new(Health::new([], Vec::new()))),
            counted: running.then(limits::counted),
        };
        Self { dir, backend: Arc::new(backend) }
    }

    fn serve(&self) -> (oneshot::Sender<()>, JoinHandle<()>) {
        let server = Server::bind(self.dir.path(), Arc::clone(&self.backend)).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async move {
            stopped.await.ok();
        }));
        (stop, task)
    }

    async fn ask(&self, verb: Value) -> Reply {
        let verb: Verb = serde_json::from_value(verb).unwrap();
        Client::connect(self.dir.path()).await.unwrap().ask(&verb).await.unwrap()
    }

    /// Every record so far.
    async fn records(self) -> (Vec<Value>, String) {
        self.backend.audit.close().await.unwrap();
        let text = fs::read_to_string(self.dir.path().join("audit/audit.jsonl")).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), text)
    }
}

fn done(reply: Reply) -> Value {
    match reply {
        Reply::Done(value) => value,
        Reply::Refused(problem) => panic!("{problem:?}"),
    }
}

fn refused(reply: Reply) -> Code {
    match reply {
        Reply::Done(value) => panic!("{value}"),
        Reply::Refused(problem) => problem.code,
    }
}

#[tokio::test]
async fn accounts_and_their_sessions() {
    let world = World::new(true);
    let (stop, task) = world.serve();
    let add = |login: &str, password: &str, role: &str| json!({"verb": "account.add", "login": login, "password": password, "roles": [role]});
    let ada = done(world.ask(add("Ada", PASSWORD, "standard_user")).await);
    assert_eq!((&ada["login"], &ada["suspended"]), (&json!("ada"), &json!(false)));
    assert_eq!(refused(world.ask(add("ada", PASSWORD, "standard_user")).await), Code::Conflict);
    assert_eq!(refused(world.ask(add("bob", "short", "standard_user")).await), Code::Invalid);
    assert_eq!(refused(world.ask(add("bob", PASSWORD, "standrd_user")).await), Code::Invalid);
    assert_eq!(refused(world.ask(add(" bob", PASSWORD, "standard_user")).await), Code::Invalid);
    assert_eq!(done(world.ask(json!({"verb": "account.list"})).await).as_array().unwrap().len(), 1);

    let account = Uuid::parse_str(ada["id"].as_str().unwrap()).unwrap();
    let new = || NewSession::of(account, clock::now());
    let verbs = [
        json!({"verb": "account.suspend", "account": "ada"}),
        json!({"verb": "account.set_password", "account": account, "password": "another long password"}),
        json!({"verb": "session.end_all", "account": "ada"}),
    ];
    for verb in verbs {
        let created = world.backend.sessions.create(new(), clock::now()).await.unwrap();
        let listed = done(world.ask(json!({"verb": "session.list", "account": "ada"})).await);
        assert_eq!(listed[0]["login"], "ada");
        assert_eq!(done(world.ask(verb).await)["sessions_ended"], json!([created.session.id]));
        // Over for the very next request.
        assert_eq!(world.backend.sessions.find(&created.secret, clock::now()).await.unwrap(), None);
    }
    let created = world.backend.sessions.create(new(), clock::now()).await.unwrap();
    let end = json!({"verb": "session.end", "session": created.session.id});
    assert_eq!(done(world.ask(end.clone()).await)["account"], json!(account));
    assert_eq!(refused(world.ask(end).await), Code::NotFound);

    assert_eq!(
        done(world.ask(json!({"verb": "account.resume", "account": "ada"})).await)["suspended"],
        false
    );
    assert_eq!(done(world.ask(json!({"verb": "account.unlock", "account": "ada"})).await)["was_held"], false);
    let roles =
        json!({"verb": "account.set_roles", "account": "ada", "roles": ["viewer"], "groups": ["developers"]});
    let changed = done(world.ask(roles).await);
    assert_eq!((&changed["roles"], &changed["groups"]), (&json!(["viewer"]), &json!(["developers"])));
    done(world.ask(json!({"verb": "account.remove", "account": "ada"})).await);
    assert_eq!(
        refused(world.ask(json!({"verb": "account.suspend", "account": "ada"})).await),
        Code::NotFound
    );
    stop.send(()).unwrap();
    task.await.unwrap();

    let (records, text) = world.records().await;
    assert!(!text.contains("horse") && !text.contains("another long password"));
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).count();
    assert_eq!((of("control"), of("opening")), (19, 9));
    let suspension = records.iter().find(|record| record["request"]["path"] == "account.suspend").unwrap();
    assert_eq!(suspension["principal"]["kind"], "operator");
    assert_eq!(suspension["principal"]["name"], rustix::process::getuid().as_raw().to_string());
    assert_eq!(suspension["decision"]["outcome"], "permit");
    assert_eq!(suspension["route"]["parameters"], json!([["account", "ada"]]));
    assert_eq!(suspension["notes"].as_array().unwrap().len(), 1);
}

/// Whose removal was late may have begun a session before it, and is gone when it is said again.
#[tokio::test]
async fn a_removal_that_is_said_again_ends_what_was_begun_before_it_was_done() {
    let world = World::new(true);
    let (stop, task) = world.serve();
    let add = json!({"verb": "account.add", "login": "ada", "password": PASSWORD, "roles": ["viewer"]});
    let remove = |account: &str| json!({"verb": "account.remove", "account": account});
    let id = done(world.ask(add.clone()).await)["id"].as_str().unwrap().to_owned();
    let account = Uuid::parse_str(&id).unwrap();
    for named in ["ada", &id] {
        let left =
            world.backend.sessions.create(NewSession::of(account, clock::now()), clock::now()).await.unwrap();
        world.backend.accounts.remove(account).await.unwrap().unwrap();
        let told = done(world.ask(remove(named)).await);
        assert_eq!(told["sessions_ended"], json!([left.session.id]), "{named}");
        assert_eq!(refused(world.ask(remove(named)).await), Code::NotFound, "{named}");
        // Or it would be theirs who has the login next.
        done(world.ask(add.clone()).await);
        assert_eq!(world.backend.sessions.find(&left.secret, clock::now()).await.unwrap(), None, "{named}");
    }
    stop.send(()).unwrap();
    task.await.unwrap();
}

#[tokio::test]
async fn keys_are_shown_once() {
    let world = World::new(true);
    let (_stop, _task) = world.serve();
    let add = |scopes: &[&str], lifetime_s: u64| json!({"verb": "key.add", "service": "importer", "scopes": scopes, "roles": ["standard_user"], "lifetime_s": lifetime_s});
    let made = done(world.ask(add(&["docs.*"], 60)).await);
    let key = made["api_key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("cgk_"));
    assert_eq!(refused(world.ask(add(&[], 60)).await), Code::Invalid);
    assert_eq!(refused(world.ask(add(&["docs.*"], 0)).await), Code::Invalid);
    let listed = done(world.ask(json!({"verb": "key.list"})).await);
    assert_eq!((&listed[0]["live"], &listed[0]["api_key"]), (&json!(true), &Value::Null));
    assert!(world.backend.keys.find(&key, clock::now()).await.unwrap().is_some());
    let revoke = json!({"verb": "key.revoke", "key": made["id"]});
    done(world.ask(revoke).await);
    assert!(world.backend.keys.find(&key, clock::now()).await.unwrap().is_none());
    assert_eq!(refused(world.ask(json!({"verb": "key.revoke", "key": Uuid::nil()})).await), Code::NotFound);
    let (_, text) = world.records().await;
    assert!(!text.contains(&key));
}

#[tokio::test]
async fn threat_18_a_bundle_may_forbid_every_verb_but_the_roll_back() {
    let world = World::new(true);
    let first = world.backend.reloader.cell().current().bundle.id().clone();
    world.backend.reloader.cell().swap(Bundle::load(&sources(false)).unwrap());
    let (_stop, _task) = world.serve();
    for verb in [
        json!({"verb": "account.list"}),
        json!({"verb": "account.add", "login": "eve", "password": PASSWORD, "roles": []}),
        json!({"verb": "key.list"}),
        json!({"verb": "session.list"}),
        json!({"verb": "session.end", "session": Uuid::nil()}),
        json!({"verb": "limits.show", "of": "address", "subject": "192.0.2.1"}),
        json!({"verb": "limits.reset", "of": "address", "subject": "192.0.2.1"}),
        json!({"verb": "bundle.show"}),
        json!({"verb": "bundle.reload", "accept": "x"}),
        json!({"verb": "status"}),
    ] {
        assert_eq!(refused(world.ask(verb).await), Code::Forbidden);
    }
    assert!(world.backend.accounts.list().await.unwrap().is_empty());
    assert_eq!(done(world.ask(json!({"verb": "bundle.rollback"})).await)["bundle"], first.to_string());
    assert_eq!(done(world.ask(json!({"verb": "bundle.show"})).await)["bundle"], first.to_string());
    let (records, _) = world.records().await;
    let denied = &records[0];
    assert_eq!(denied["decision"]["outcome"], "deny");
    assert_eq!(denied["decision"]["deciding"][0]["id"], "nobody");
    assert_eq!(
        (&denied["answer"]["status"], &denied["decision"]["refusal"]),
        (&json!(403), &json!("forbidden"))
    );
}

#[tokio::test]
async fn the_world() {
    let world = World::new(true);
    let (_stop, _task) = world.serve();
    let status = done(world.ask(json!({"verb": "status"})).await);
    assert_eq!((&status["running"], &status["sessions"]), (&json!(true), &json!(0)));
    assert_eq!(refused(world.ask(json!({"verb": "bundle.rollback"})).await), Code::NotFound);
}

/// Direct work on the store, where no gateway runs, takes the same decision and leaves the same record.
#[tokio::test]
async fn threat_18_direct_work_is_decided_and_recorded() {
    let world = World::new(false);
    let operator = Operator { uid: 1234 };
    let verb = |value: Value| serde_json::from_value::<Verb>(value).unwrap();
    let reply = execute(verb(json!({"verb": "status"})), &world.backend, operator, UnixMillis(5)).await;
    assert_eq!(done(reply)["running"], false);
    let reply =
        execute(verb(json!({"verb": "bundle.reload"})), &world.backend, operator, UnixMillis(5)).await;
    assert_eq!(refused(reply), Code::NotRunning);
    let show = json!({"verb": "limits.show", "of": "address", "subject": "192.0.2.1"});
    let reply = execute(verb(show), &world.backend, operator, UnixMillis(5)).await;
    assert_eq!(refused(reply), Code::NotRunning);
    world.backend.reloader.cell().swap(Bundle::load(&sources(false)).unwrap());
    let reply = execute(verb(json!({"verb": "account.list"})), &world.backend, operator, UnixMillis(5)).await;
    assert_eq!(refused(reply), Code::Forbidden);
    let (records, _) = world.records().await;
    let names: Vec<_> = records.iter().map(|record| record["principal"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["1234"; 5]);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_changes_nothing() {
    let world = World::new(true);
    let (_stop, _task) = world.serve();
    let path = world.dir.path().join(SOCKET_NAME);
    let huge =
        format!("{{\"verb\":\"account.list\",\"x\":\"{}\"}}\n", "a".repeat(REQUEST_BYTES_MAX as usize));
    let whole =
        "{\"verb\":\"account.add\",\"login\":\"eve\",\"password\":\"correct horse battery\",\"roles\":[]}";
    // What is sent, and how many answers come before the connection ends.
    for (bytes, answers) in [
        ("\n", 1),
        ("nonsense\n", 1),
        ("[]\n", 1),
        ("{}\n", 1),
        ("{\"verb\":\"account.explode\"}\n", 1),
        ("{\"verb\":\"account.list\",\"extra\":1}\n", 1),
        ("{\"verb\":\"key.add\",\"service\":\"x\",\"scope\":[\"*\"]}\n", 1),
        ("{\"verb\":\"session.end\",\"session\":\"not-a-uuid\"}\n", 1),
        ("{\"verb\":\"account.add\",\"login\":\"x\",\"password\":12345,\"roles\":[]}\n", 1),
        ("\u{0}\u{1}\n\n{\n", 3),
        (huge.as_str(), 1),
        // A half line is never acted on, whole as it may look.
        (whole, 0),
        ("", 0),
    ] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        // The server may hang up on a huge line before all of it is written.
        stream.write_all(bytes.as_bytes()).await.ok();
        stream.shutdown().await.ok();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok();
        let shown = bytes.get(..40).unwrap_or(bytes);
        if bytes.len() < 1000 {
            assert_eq!(answer.lines().count(), answers, "{shown}");
        }
        assert!(
            answer.lines().all(|line| line.contains("\"refused\"") && line.contains("\"invalid\"")),
            "{shown} {answer}"
        );
        assert!(!answer.contains("12345") && !answer.contains("not-a-uuid"), "{answer}");
    }
    assert!(world.backend.accounts.list().await.unwrap().is_empty());
    // And the next one is answered.
    done(world.ask(json!({"verb": "account.list"})).await);
}

#[tokio::test]
async fn the_socket_belongs_to_one_live_process() {
    let world = World::new(true);
    let path = world.dir.path().join(SOCKET_NAME);
    let bind = || Server::bind(world.dir.path(), Arc::clone(&world.backend));
    let first = bind().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(bind(), Err(BindError::Live(_))));
    assert!(!world.dir.path().join("control.new").exists());
    drop(first);
    assert!(!path.exists());
    // A process that died leaves its file behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(bind().unwrap());
    fs::write(&path, "mine").unwrap();
    assert!(matches!(bind(), Err(BindError::NotASocket(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    assert!(matches!(Client::connect(world.dir.path()).await, Err(ClientError::NoAnswer { .. })));
}

#[tokio::test]
async fn a_data_directory_may_lie_deep() {
    let world = World::new(true);
    let deep = world.dir.path().join("d".repeat(200));
    fs::create_dir(&deep).unwrap();
    let server = Server::bind(&deep, Arc::clone(&world.backend)).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(async move {
        stopped.await.ok();
    }));
    let reply = Client::connect(&deep).await.unwrap().ask(&Verb::Status {}).await.unwrap();
    assert_eq!(done(reply)["running"], true);
    assert!(matches!(Server::bind(&deep, Arc::clone(&world.backend)), Err(BindError::Live(_))));
    stop.send(()).unwrap();
    task.await.unwrap();
}

#[tokio::test]
async fn threat_18_what_nobody_waits_for_any_more_is_not_done() {
    use std::io::Write;
    let world = World::new(true);
    let server = Server::bind(world.dir.path(), Arc::clone(&world.backend)).unwrap();
    let ask = |login: &str| {
        let verb = json!({"verb": "account.add", "login": login, "password": PASSWORD, "roles": []});
        let stream = std::os::unix::net::UnixStream::connect(world.dir.path().join(SOCKET_NAME)).unwrap();
        (&stream).write_all(format!("{verb}\n").as_bytes()).unwrap();
        stream
    };
    // Asked of a gateway that hangs, by one who has given up when it goes on, and by one who has only said all.
    drop(ask("ada"));
    let waits = ask("bob");
    waits.shutdown(std::net::Shutdown::Write).unwrap();
    waits.set_nonblocking(true).unwrap();
    let mut waits = UnixStream::from_std(waits).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(async move {
        stopped.await.ok();
    }));
    let mut answer = String::new();
    waits.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("bob"), "{answer}");
    stop.send(()).unwrap();
    task.await.unwrap();
    let logins = world.backend.accounts.list().await.unwrap();
    let logins: Vec<&str> = logins.iter().map(|account| account.login.as_str()).collect();
    assert_eq!(logins, ["bob"]);
}

#[tokio::test]
async fn a_verb_under_way_is_finished_when_the_gateway_stops() {
    let world = World::new(true);
    let (stop, task) = world.serve();
    let mut client = Client::connect(world.dir.path()).await.unwrap();
    let verb = Verb::AccountAdd {
        login: "ada".to_owned(),
        password: Hidden::new(PASSWORD.to_owned()),
        roles: [].into(),
        groups: [].into(),
    };
    // The first answer shows that the connection is served; then both are under way at once.
    client.ask(&Verb::Status {}).await.unwrap();
    let (reply, ()) = tokio::join!(client.ask(&verb), async {
        tokio::task::yield_now().await;
        stop.send(()).unwrap();
    });
    task.await.unwrap();
    // Either it was never begun, or it was done, recorded and answered.
    let added = world.backend.accounts.list().await.unwrap().len();
    assert_eq!(added, usize::from(matches!(reply, Ok(Reply::Done(_)))));
}
