//! A real redis-server of the test's own, on a socket in a folder of its own. `tests/run` installs it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use engine::time::UnixMillis;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Observer, RedisAddress, RedisSettings, Standing, Standings};
use crate::Secret;
use crate::counters::Counters;

/// How long something in another process may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);
const USER: &str = "cedargate";
const PASSWORD: &str = "the-password-of-a-test";
/// What the gateway's user may do: the list of docs/operate.md.
const GRANTED: [&str; 7] = ["~cedargate:*", "+eval", "+evalsha", "+script|load", "+get", "+set", "+time"];

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
        let client = redis::Client::open(redis::ConnectionAddr::Unix(self.socket())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }

    /// Settings for it, with a budget that no machine exceeds by itself.
    pub(crate) fn settings(&self) -> RedisSettings {
        settings(RedisAddress::Unix(self.socket()))
    }

    /// Counters in it that are tended and asked already.
    pub(crate) async fn counters(&self, change: impl FnOnce(&mut RedisSettings)) -> Arc<Counters> {
        let mut settings = self.settings();
        change(&mut settings);
        let counters = tended(settings, Box::new(|_, _| {}));
        reaches(&counters, |standings| standings.now == Standing::Up).await;
        counters
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Settings of a test.
pub(crate) fn settings(address: RedisAddress) -> RedisSettings {
    RedisSettings {
        address,
        user: USER.to_owned(),
        password: Secret::new(PASSWORD.to_owned()),
        database: 0,
        prefix: "cedargate".to_owned(),
        budget: PATIENCE,
        gateways: 1,
        memory_bytes: 64 * 1024,
        clock: || UnixMillis(1_800_000_000_000),
        given_time: false,
    }
}

/// Counters that are tended from now on.
pub(crate) fn tended(settings: RedisSettings, observer: Observer) -> Arc<Counters> {
    let counters = Arc::new(Counters::redis(settings, observer));
    let tending = counters.clone();
    tokio::spawn(async move { tending.tend().await });
    counters
}

/// Waits until the store stands so.
pub(crate) async fn reaches(counters: &Counters, wanted: impl Fn(&Standings) -> bool) -> Standings {
    let mut standing = counters.standing().unwrap();
    let waited = tokio::time::timeout(PATIENCE, standing.wait_for(|standings| wanted(standings))).await;
    let last = *counters.standing().unwrap().borrow();
    *waited.unwrap_or_else(|_| panic!("waited in vain: {last:?}")).unwrap()
}

fn spawn(folder: &TempDir) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--loglevel", "warning"]);
    command.arg("--dir").arg(folder.path()).arg("--unixsocket").arg(folder.path().join("socket"));
    command.args(["--user", USER, "on", &format!(">{PASSWORD}")]).args(GRANTED);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is installed: tests/run sees to it")
}
