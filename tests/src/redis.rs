//! A real redis-server of the test's own. `tests/run` installs it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::passage::Passage;
use crate::ports::Port;
use crate::production::random_hex;
use crate::tls::Certificate;
use crate::wait::{self, PATIENCE};

/// What the gateway's user may do: the line of docs/operate.md.
pub(crate) const GRANTED: &str = "~cedargate:* &cedargate:* +eval +evalsha +script|load +get +set +time +del +exists +hget +hmget +hset \
    +pexpire +pttl +zadd +zcount +zrange +zrangebyscore +zrem +zscore +sadd +smembers +srem +publish +subscribe";

/// A Redis on a port of the loopback interface; killed when dropped.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    folder: TempDir,
    port: Port,
    /// A port over TLS, and the certificate there.
    encrypted: Option<(Port, Certificate)>,
    password: String,
    /// Whether every write is on disk before it is answered, and is there again after a crash.
    keeps: bool,
    /// What listens in its place, and never answers.
    hole: Option<TcpListener>,
    /// What gateways are led through to it.
    passage: Option<Passage>,
}

/// A way in which it is there no longer as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Its process has ended, as by a crash.
    Killed,
    /// Its process does not go on, and its connections stay.
    Stopped,
    /// It is busy with one command, for longer than anybody waits; what ends that is its end.
    Asleep,
    /// Each of its answers is on its way for longer than anybody waits for one.
    Slow,
    /// It answers reads, and lets writes wait.
    Paused,
    /// It has become the replica of a server that is not there.
    ReadOnly,
    /// Its memory is full.
    Full,
    /// The gateway's user has another password, and its connections were ended.
    OtherPassword,
    /// The gateway's user may not use this command any more.
    Forbidden(&'static str),
    /// What accepts connections at its address never answers.
    BlackHole,
}

impl Redis {
    /// Starts one that is empty, and waits until it listens.
    #[must_use]
    pub fn start() -> Self {
        let mut redis = Self::stopped();
        redis.restart();
        redis
    }

    /// One that does not run yet.
    #[must_use]
    pub fn stopped() -> Self {
        let folder = TempDir::new().expect("a folder");
        Self {
            child: None,
            folder,
            port: Port::take(),
            encrypted: None,
            password: random_hex(),
            keeps: false,
            hole: None,
            passage: None,
        }
    }

    /// The same, to which gateways come through what may have its answers wait.
    #[must_use]
    pub fn behind_a_passage(mut self) -> Self {
        self.passage = Some(Passage::to(self.address()));
        self
    }

    /// Starts one that keeps what it has acknowledged, whatever becomes of it.
    #[must_use]
    pub fn keeping() -> Self {
        let mut redis = Self::stopped();
        redis.keeps = true;
        redis.restart();
        redis
    }

    /// One that is empty and spoken to over TLS as well, with a certificate for this name.
    #[must_use]
    pub fn encrypted(name: &str) -> Self {
        let mut redis = Self::stopped();
        redis.encrypted = Some((Port::take(), Certificate::make(redis.folder.path(), name)));
        redis.restart();
        redis
    }

    /// Starts it, with nothing in it but what it keeps, and waits until it listens.
    pub fn restart(&mut self) {
        self.kill();
        self.hole = None;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.address().port().to_string()]);
        let appends = if self.keeps { "yes" } else { "no" };
        command.args([
            "--save",
            "",
            "--appendonly",
            appends,
            "--appendfsync",
            "always",
            "--loglevel",
            "warning",
        ]);
        command.args(["--enable-debug-command", "local"]).arg("--dir").arg(self.folder.path());
        command
            .args(["--user", "cedargate", "on", &format!(">{}", self.password)])
            .args(GRANTED.split_whitespace());
        if let Some((port, Certificate { cert, key, .. })) = &self.encrypted {
            command.args(["--tls-port", &port.address().port().to_string(), "--tls-auth-clients", "no"]);
            command
                .arg("--tls-cert-file")
                .arg(cert)
                .arg("--tls-key-file")
                .arg(key)
                .arg("--tls-ca-cert-file")
                .arg(cert);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server is installed: tests/run sees to it"));
        wait::until("redis", PATIENCE, || TcpStream::connect(self.address()).ok());
    }

    /// Ends it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Breaks it.
    pub fn breaks(&mut self, how: Break) {
        match how {
            Break::Killed => self.kill(),
            Break::Stopped => self.signal(Signal::STOP),
            Break::Asleep => self.sleeps(),
            Break::Slow => self.slows(true),
            Break::Paused => self.order(&["CLIENT", "PAUSE", "600000", "WRITE"]),
            Break::ReadOnly => self.order(&["REPLICAOF", "127.0.0.1", "1"]),
            Break::Full => self.order(&["CONFIG", "SET", "maxmemory", "1"]),
            Break::OtherPassword => {
                self.order(&["ACL", "SETUSER", "cedargate", "resetpass", ">another"]);
                self.order(&["CLIENT", "KILL", "USER", "cedargate"]);
            }
            Break::Forbidden(command) => {
                self.order(&["ACL", "SETUSER", "cedargate", &format!("-{command}")]);
            }
            Break::BlackHole => {
                self.kill();
                // The kernel accepts, and nobody reads.
                self.hole = Some(TcpListener::bind(self.address()).expect("its port"));
            }
        }
    }

    /// Undoes that.
    pub fn mends(&mut self, how: Break) {
        match how {
            Break::Killed | Break::Asleep | Break::BlackHole => self.restart(),
            Break::Stopped => self.signal(Signal::CONT),
            Break::Slow => self.slows(false),
            Break::Paused => self.order(&["CLIENT", "UNPAUSE"]),
            Break::ReadOnly => self.order(&["REPLICAOF", "NO", "ONE"]),
            Break::Full => self.order(&["CONFIG", "SET", "maxmemory", "0"]),
            Break::OtherPassword => {
                let password = format!(">{}", self.password);
                self.order(&["ACL", "SETUSER", "cedargate", "resetpass", &password]);
            }
            Break::Forbidden(command) => {
                self.order(&["ACL", "SETUSER", "cedargate", &format!("+{command}")]);
            }
        }
    }

    fn slows(&self, slow: bool) {
        self.passage.as_ref().expect("there is a passage").slows(slow);
    }

    /// Has it sleep. Whatever is sent to it from now on is answered after that.
    fn sleeps(&self) {
        let mut stream = TcpStream::connect(self.address()).expect("it listens");
        // It looks at connections that it knows in the order in which something comes, and answers none before it has done
        // all that was there.
        stream.write_all(b"PING\r\n").expect("it reads");
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"+PONG\r\n");
        stream.write_all(b"DEBUG SLEEP 600\r\n").expect("it reads");
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("it is ours to signal");
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The gateway's password there.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The lines of `[limits.redis]` that name it, its URL in a file.
    #[must_use]
    pub fn lines(&self) -> String {
        self.lines_of("limits.redis")
    }

    /// The lines of a table that name it.
    #[must_use]
    pub fn lines_of(&self, table: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let file = self.folder.path().join("url");
        let (place, ca) = match &self.encrypted {
            None => {
                let address = self.passage.as_ref().map_or(self.address(), Passage::address);
                (format!("redis://cedargate:{}@{address}/0", self.password), String::new())
            }
            Some((port, certificate)) => {
                let port = port.address().port();
                let ca = format!("ca = \"{}\"\n", certificate.cert.display());
                (format!("rediss://cedargate:{}@localhost:{port}", self.password), ca)
            }
        };
        std::fs::write(&file, place + "\n").expect("a file");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        format!("[{table}]\nurl = \"file:{}\"\n{ca}", file.display())
    }

    /// Says something to it as its administrator; the bytes of its answer.
    #[must_use]
    pub fn say(&self, words: &[&str]) -> String {
        say(self.address(), words, Quits::Yes)
    }

    /// The same where only `+OK` will do.
    pub fn order(&self, words: &[&str]) {
        let answer = self.say(words);
        assert!(answer == "+OK\r\n" || answer.starts_with(':'), "{words:?}: {answer}");
    }

    /// Its own time in microseconds since 1970.
    #[must_use]
    pub fn time_us(&self) -> u64 {
        let answer = self.say(&["TIME"]);
        let mut numbers = answer.lines().filter_map(|line| line.parse::<u64>().ok());
        let (seconds, microseconds) =
            (numbers.next().expect("seconds"), numbers.next().expect("microseconds"));
        seconds * 1_000_000 + microseconds
    }
}

/// Whether a server knows how to quit. A sentinel does not, and says so behind its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quits {
    Yes,
    No,
}

/// Says something to a server as its administrator; the bytes of its answer.
pub(crate) fn say(server: SocketAddr, words: &[&str], quits: Quits) -> String {
    let mut stream = TcpStream::connect(server).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes()).expect("it reads");
    // What follows is the end of the connection, so that an answer is whole when there is no more.
    stream.write_all(b"*1\r\n$4\r\nQUIT\r\n").expect("it reads");
    if quits == Quits::No {
        stream.shutdown(Shutdown::Write).expect("it is connected");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in text");
    answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned()
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
