//! A removal whose answer comes too late, from a Redis that the test plays.

use std::collections::BTreeMap;
use std::time::Duration;

use storage::Changes;
use storage::redis::{RedisAddress, RedisPlace, Standing};
use storage::sessions::SharedSessions;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;

/// How long something may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What accounts need of a Redis. It removes one when it is told to, and says so when the test wants it.
struct Played {
    port: u16,
    removed: watch::Receiver<bool>,
    says_so: watch::Sender<bool>,
}

impl Played {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (removes, removed) = watch::channel(false);
        let (says_so, told) = watch::channel(false);
        tokio::spawn(async move {
            let mut records = BTreeMap::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                answer(stream, &mut records, &removes, told.clone()).await;
            }
        });
        Self { port, removed, says_so }
    }

    /// The connection of a gateway, which waits for so long.
    fn sessions(&self, budget: Duration) -> Arc<Sessions> {
        let shared = SharedSessions {
            place: RedisPlace {
                address: RedisAddress::Tcp { host: "127.0.0.1".to_owned(), port: self.port, tls: None },
                user: "cedargate".to_owned(),
                password: storage::Secret::new("the-password-of-a-test".to_owned()),
                database: 0,
                prefix: "cedargate".to_owned(),
            },
            budget,
            replicas: 0,
        };
        let (ring, rules) = (
            Keyring::from_master(&[7; 32]),
            SessionRules { idle_ms: 60_000, absolute_ms: 600_000, per_account_max: 10 },
        );
        let sessions =
            Arc::new(Sessions::redis(shared, ring, rules, Changes::default(), Box::new(|_, _| {})));
        let tended = Arc::clone(&sessions);
        tokio::spawn(async move { tended.tend().await });
        sessions
    }
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Answers on one connection, in order, until it ends.
async fn answer(
    stream: TcpStream,
    records: &mut Records,
    removes: &watch::Sender<bool>,
    mut told: watch::Receiver<bool>,
) {
    let (asking, mut answering) = stream.into_split();
    let mut asking = BufReader::new(asking);
    while let Some(words) = asked(&mut asking).await {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let said = match words[..] {
            [b"HELLO", ..] => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
            [b"SCRIPT", ..] => bulk(Some(b"script")),
            [b"SUBSCRIBE", channel] => {
                [b">3\r\n".to_vec(), bulk(Some(b"subscribe")), bulk(Some(channel)), b":1\r\n".to_vec()]
                    .concat()
            }
            [b"EVALSHA", _, _, _, b"beat", ..] => b":0\r\n".to_vec(),
            [b"EVALSHA", _, _, _, b"key", _, ours, _] => bulk(Some(ours)),
            [b"EVALSHA", _, _, _, b"record.ids", ..] => list(records.keys().map(|id| bulk(Some(id)))),
            [b"EVALSHA", _, _, _, b"record.read", _, _, ref ids @ ..] => {
                list(ids.iter().map(|id| bulk(records.get(*id).map(Vec::as_slice))))
            }
            [b"EVALSHA", _, _, _, b"record.put", _, _, id, _, after, _] => {
                records.insert(id.to_vec(), after.to_vec());
                b":1\r\n".to_vec()
            }
            [b"EVALSHA", _, _, _, b"record.remove", _, _, id] => {
                let removed = records.remove(id);
                removes.send_replace(true);
                if told.wait_for(|told| *told).await.is_err() {
                    return;
                }
                bulk(removed.as_deref())
            }
            _ => panic!("{:?}", words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>()),
        };
        if answering.write_all(&said).await.is_err() {
            return;
        }
    }
}

fn bulk(bytes: Option<&[u8]>) -> Vec<u8> {
    bytes.map_or_else(
        || b"_\r\n".to_vec(),
        |bytes| [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
    )
}

fn list(items: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut all = format!("*{}\r\n", items.len()).into_bytes();
    items.for_each(|item| all.extend(item));
    all
}

/// The next question, in words.
async fn asked(asking: &mut BufReader<OwnedReadHalf>) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    for _ in 0..length(asking).await? {
        let mut word = vec![0; length(asking).await? + 2];
        asking.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(word);
    }
    Some(words)
}

/// How many there are, behind a mark of what.
async fn length(asking: &mut BufReader<OwnedReadHalf>) -> Option<usize> {
    let mut line = String::new();
    asking.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

/// Whatever a person began before they were gone ends with the first removal, though nobody knows yet what came of it.
#[tokio::test]
async fn a_removal_that_is_answered_late_ends_at_once_what_was_begun_until_it_was_done() {
    let played = Played::start().await;
    let shared = played.sessions(Duration::from_millis(400));
    let World { dir, backend } = World::new(true);
    let mut backend = Arc::into_inner(backend).unwrap();
    backend.accounts = Accounts::shared(&shared).unwrap();
    let world = World { dir, backend: Arc::new(backend) };
    let (stop, task) = world.serve();
    let mut standing = shared.standing().unwrap();
    tokio::time::timeout(PATIENCE, standing.wait_for(|standings| standings.now == Standing::Up))
        .await
        .expect("it is there")
        .unwrap();
    let add = json!({"verb": "account.add", "login": "ada", "password": PASSWORD, "roles": ["viewer"]});
    let account = Uuid::parse_str(done(world.ask(add).await)["id"].as_str().unwrap()).unwrap();
    let begin = async || {
        world.backend.sessions.create(NewSession::of(account, clock::now()), clock::now()).await.unwrap()
    };
    let remove = || world.ask(json!({"verb": "account.remove", "account": "ada"}));
    let before = begin().await;
    let mut removed = played.removed.clone();
    let (told, meanwhile) = tokio::join!(remove(), async {
        removed.wait_for(|removed| *removed).await.unwrap();
        begin().await
    });
    assert_eq!(refused(told), Code::Unavailable);
    for (session, when) in [(before, "before it"), (meanwhile, "while nobody said that it was done")] {
        assert_eq!(world.backend.sessions.find(&session.secret, clock::now()).await.unwrap(), None, "{when}");
    }
    played.says_so.send_replace(true);
    // Said again: there is nobody any more, and nothing is left of them.
    assert_eq!(refused(remove().await), Code::NotFound);
    stop.send(()).unwrap();
    task.await.unwrap();
}
