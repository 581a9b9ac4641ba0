//! Sockets of a production gateway: of services with keys, over TLS on both sides, and with bounds of its own.

use serde_json::{Value, json};
use tests::client::{Client, Request};
use tests::production::{HOST, Production};
use tests::tls::Certificate;
use tests::wait::{self, PATIENCE};
use tests::websocket::{PeerClient, PeerServer, RawSocket};

const WS: &str = "/ws";
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A service that may chat: its key and the key's id. Nobody may see the key.
fn service(production: &mut Production, name: &str) -> (String, String) {
    let (content, said) =
        production.cli(&["key", "add", name, "--scope", "chat.*", "--role", "standard_user"], "");
    assert!(content, "{said}");
    // The key stands alone on standard output, what it is on standard error.
    let (key, told) = said.trim().split_once('\n').expect("the key and what it is");
    let id = told.split([',', ' ', '\n']).find(|word| word.len() == 36);
    let id = id.unwrap_or_else(|| panic!("no id in {told}")).to_owned();
    production.secrets.push(key.to_owned());
    (key.to_owned(), id)
}

fn open(production: &Production, key: &str) -> RawSocket {
    let request = Request::new("GET", WS).with("Host", HOST).with("X-API-Key", key);
    RawSocket::upgrade(Client::connect(production.address()), request)
}

fn recorded(production: &Production, close_code: u16) -> Value {
    wait::until(&format!("a socket closed with {close_code}"), PATIENCE, || {
        production.audit().records().into_iter().find(|record| record["socket"]["close_code"] == close_code)
    })
}

#[test]
fn a_silent_client_is_asked_for_a_sign_of_life_and_given_up_without_one() {
    let server = PeerServer::start();
    let mut production = Production::before(server.address())
        .with_lines("websocket = { ping = \"1s\", idle = \"2s\" }".to_owned());
    let (key, _) = service(&mut production, "bot");
    let _process = production.start();
    let (mut silent, mut alive) = (open(&production, &key), open(&production, &key));
    // A pong that nobody asked for is no answer, or silence could be sent ahead.
    silent.frame(PONG, b"unasked");
    let mut asked = Vec::new();
    while asked.len() < 3 {
        let (first, payload) = alive.receive().expect("a ping");
        assert_eq!(first, PING);
        alive.frame(PONG, &payload);
        asked.push(payload);
    }
    assert!(asked.is_sorted_by(|a, b| a != b), "the same ping twice: {asked:?}");
    assert_eq!(silent.closed(), (1001, "no sign of life".to_owned()));
    alive.frame(0x81, b"here");
    assert_eq!(alive.receive().expect("the echo"), (0x81, b"here".to_vec()));
    let record = recorded(&production, 1001);
    assert_eq!(record["socket"]["closed_by"], "gateway", "{record:#}");
}

#[test]
fn a_client_that_reads_nothing_is_given_up_also_while_it_talks() {
    let server = PeerServer::start();
    let mut production = Production::before(server.address())
        .with_lines("websocket = { ping = \"1s\", idle = \"2s\", message_rate = \"100000/1s\" }".to_owned());
    let (key, _) = service(&mut production, "bot");
    let _process = production.start();
    let (mut silent, mut talking) = (open(&production, &key), open(&production, &key));
    for socket in [&mut silent, &mut talking] {
        // Far more than the buffers of all three hold together.
        socket.frame(0x81, b"!flood 64 1000000");
    }
    let records = wait::until("both records", PATIENCE, || {
        let of_it = |record: &Value| record["answer"]["status"] == 101;
        let found: Vec<Value> = production.audit().records().into_iter().filter(of_it).collect();
        if found.len() < 2 {
            talking.frame(0x81, b"x");
        }
        (found.len() == 2).then_some(found)
    });
    let mut told: Vec<_> = records
        .iter()
        .map(|record| (record["socket"]["close_code"].clone(), record["decision"]["detail"].clone()))
        .collect();
    told.sort_by_key(|(code, _)| code.as_u64());
    assert_eq!(told, [(json!(1001), json!("no sign of life")), (json!(1008), json!("nothing is read"))]);
}

#[test]
fn a_revoked_key_closes_its_sockets_and_no_others() {
    let server = PeerServer::start();
    let mut production = Production::before(server.address());
    let (key, id) = service(&mut production, "bot");
    let (other, _) = service(&mut production, "other");
    let _process = production.start();
    let (mut socket, mut theirs) = (open(&production, &key), open(&production, &other));
    let (content, said) = production.cli(&["key", "revoke", &id], "");
    assert!(content, "{said}");
    assert_eq!(socket.closed(), (4401, "signed out".to_owned()));
    theirs.frame(0x81, b"still here");
    assert_eq!(theirs.receive().expect("the echo"), (0x81, b"still here".to_vec()));
    let record = recorded(&production, 4401);
    assert_eq!(record["principal"]["credential_id"], json!(id), "{record:#}");
}

#[test]
fn a_socket_passes_over_tls_on_both_sides() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (own, upstream) = (folder.path().join("own"), folder.path().join("upstream"));
    for folder in [&own, &upstream] {
        std::fs::create_dir(folder).expect("a folder");
    }
    let (own, upstream) = (Certificate::make(&own, HOST), Certificate::make(&upstream, "bots.example"));
    let server = PeerServer::over_tls(&upstream);
    let tls = format!("tls = {{ name = \"bots.example\", ca = {:?} }}", upstream.cert);
    let mut production =
        Production::default().with_upstream(format!("addresses = [\"{}\"]\n{tls}", server.address()));
    let files = [("BOTSERVER_TLS_CERT", &own.cert), ("BOTSERVER_TLS_KEY", &own.key)];
    production.environment.extend(files.map(|(name, file)| (name, file.display().to_string())));
    let (key, id) = service(&mut production, "bot");
    let _process = production.start();
    let mut client = PeerClient::start();
    let opened = client.must(&json!({
        "do": "connect",
        "url": format!("wss://{HOST}{WS}"),
        "port": production.address().port(),
        "ca": own.cert,
        "headers": {"X-API-Key": key},
    }));
    let socket = opened["id"].as_u64().expect("a number");
    assert_eq!(client.echo(socket, "hello"), "hello");
    for size in [1, 70_000, 10 * 1024 * 1024] {
        client.must(&json!({"do": "send", "id": socket, "size": size}));
        assert_eq!(client.must(&json!({"do": "receive", "id": socket}))["size"], size);
    }
    let (content, said) = production.cli(&["key", "revoke", &id], "");
    assert!(content, "{said}");
    assert_eq!(client.closed(socket), (4401, "signed out".to_owned()));
}
