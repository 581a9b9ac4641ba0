//! A real redis-server of the test's own, on a socket in a folder of its own and at a loopback address of its own.
//! `tests/run` installs it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::{RedisAddress, RedisCluster, RedisHost, RedisPlace, RedisReached};
use crate::Secret;

/// How long something in another process may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Below what the kernel gives to whoever asks for any, as is that of the cluster's bus, 10,000 above.
const PORT: u16 = 6379;
const USER: &str = "cedargate";
const PASSWORD: &str = "the-password-of-a-test";
/// What the gateway's user may do: the list of docs/operate.md.
const GRANTED: &str = "~cedargate:* &cedargate:* +eval +evalsha +script|load +get +set +time +del +exists +hget +hmget +hset \
    +pexpire +pttl +zadd +zcount +zrange +zrangebyscore +zrem +zscore +sadd +smembers +srem +publish +subscribe \
    +role +cluster|nodes +wait";

/// Killed when dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    host: RedisHost,
    is_cluster: bool,
}

impl Server {
    /// One that is empty. Whether it listens already is for its client to find out.
    pub(crate) fn start() -> Self {
        Self::of(false)
    }

    /// The same, as the only node of a cluster.
    pub(crate) async fn cluster() -> Self {
        let server = Self::of(true);
        server.listens().await;
        server.say(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
        server
    }

    /// One that all tests share which run at the same time, for it takes a node two seconds to believe that it is alone.
    /// Every place in it has a prefix of its own.
    pub(crate) async fn shared_cluster() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::cluster().await);
        *shared = Arc::downgrade(&server);
        server
    }

    fn of(is_cluster: bool) -> Self {
        let folder = TempDir::new().unwrap();
        // One of sixteen million, so that no two tests share one.
        let [a, b, c] = crate::random::random::<3>();
        let host =
            RedisHost { host: std::net::Ipv4Addr::new(127, a, b, c.clamp(2, 250)).to_string(), port: PORT };
        Self { child: spawn(&folder, &host, is_cluster), folder, host, is_cluster }
    }

    /// Waits until it listens.
    pub(super) async fn listens(&self) {
        let listens = async {
            while tokio::net::UnixStream::connect(self.socket()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("it listens");
    }

    /// Where it listens beside the socket.
    pub(crate) fn host(&self) -> RedisHost {
        self.host.clone()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Ends it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Begins anew, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.folder, &self.host, self.is_cluster);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Says something to it as its administrator.
    pub(crate) async fn say(&self, words: &[&str]) -> redis::Value {
        self.say_bytes(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()).await
    }

    /// The same to one that may not listen yet.
    pub(crate) async fn try_say(&self, words: &[&str]) -> Option<redis::Value> {
        tokio::net::UnixStream::connect(self.socket()).await.ok()?;
        Some(self.say(words).await)
    }

    /// The same, where words are no text.
    pub(crate) async fn say_bytes(&self, words: &[&[u8]]) -> redis::Value {
        let mut connection = self.connection().await;
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query_async(&mut connection).await.unwrap()
    }

    /// A connection of its administrator.
    pub(super) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(redis::ConnectionAddr::Unix(self.socket())).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Where it is. In a cluster with a prefix of its own.
    pub(crate) fn place(&self) -> RedisPlace {
        if self.is_cluster {
            let reached = RedisReached { tls: None, in_clear: false };
            let place = place(RedisAddress::Cluster(RedisCluster { hosts: vec![self.host()], reached }));
            return RedisPlace { prefix: format!("cedargate:{}", uuid::Uuid::new_v4()), ..place };
        }
        place(RedisAddress::Unix(self.socket()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Who the gateway is at any address.
pub(crate) fn place(address: RedisAddress) -> RedisPlace {
    RedisPlace {
        address,
        user: USER.to_owned(),
        password: Secret::new(PASSWORD.to_owned()),
        database: 0,
        prefix: "cedargate".to_owned(),
    }
}

fn spawn(folder: &TempDir, host: &RedisHost, is_cluster: bool) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--save", "", "--appendonly", "no", "--loglevel", "warning"]);
    command.args(["--bind", &host.host, "--port", &host.port.to_string()]);
    command.arg("--dir").arg(folder.path()).arg("--unixsocket").arg(folder.path().join("socket"));
    command.args(["--user", USER, "on", &format!(">{PASSWORD}")]).args(GRANTED.split_whitespace());
    if is_cluster {
        command.args(["--cluster-enabled", "yes", "--cluster-announce-ip", &host.host]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is installed: tests/run sees to it")
}
