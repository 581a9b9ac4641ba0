//! A real redis-server of the test's own, on a socket in a folder of its own. `tests/run` installs it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{RedisAddress, RedisPlace};
use crate::Secret;

/// How long something in another process may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const USER: &str = "cedargate";
const PASSWORD: &str = "the-password-of-a-test";
/// What the gateway's user may do: the list of docs/operate.md.
const GRANTED: &str = "~cedargate:* &cedargate:* +eval +evalsha +script|load +get +set +time +del +exists +hget +hmget +hset \
    +pexpire +pttl +zadd +zcount +zrange +zrangebyscore +zrem +zscore +sadd +smembers +srem +publish +subscribe";

/// Killed when dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
}

impl Server {
    /// One that is empty. Whether it listens already is for its client to find out.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        Self { child: spawn(&folder), folder }
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
        self.child = spawn(&self.folder);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Says something to it as its administrator.
    pub(crate) async fn say(&self, words: &[&str]) -> redis::Value {
        self.say_bytes(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()).await
    }

    /// The same, where words are no text.
    pub(crate) async fn say_bytes(&self, words: &[&[u8]]) -> redis::Value {
        let client = redis::Client::open(redis::ConnectionAddr::Unix(self.socket())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query_async(&mut connection).await.unwrap()
    }

    /// Where it is.
    pub(crate) fn place(&self) -> RedisPlace {
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

fn spawn(folder: &TempDir) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--loglevel", "warning"]);
    command.arg("--dir").arg(folder.path()).arg("--unixsocket").arg(folder.path().join("socket"));
    command.args(["--user", USER, "on", &format!(">{PASSWORD}")]).args(GRANTED.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is installed: tests/run sees to it")
}
