//! Several real redis-servers of the test's own that take over from each other: a master, its replica and three sentinels,
//! or the six nodes of a cluster.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::ports::Port;
use crate::production::random_hex;
use crate::redis::{GRANTED, Quits, say};
use crate::tls::Certificate;
use crate::wait::{self, PATIENCE};

/// What the sentinels call the master.
const MASTER: &str = "mymaster";
/// What the gateway's user may do besides: the lines of docs/operate.md.
const GRANTED_BESIDES: [&str; 3] = ["+role", "+cluster|nodes", "+wait"];
/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// How the servers find out which of them is the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Three sentinels agree on it.
    Sentinels,
    /// The masters of a cluster do.
    Cluster,
}

/// Servers that take over from each other. All of them end with it.
#[derive(Debug)]
pub struct Group {
    kind: Kind,
    password: String,
    /// Of the gateway at the sentinels.
    watch_password: String,
    servers: Vec<Node>,
    sentinels: Vec<Node>,
    /// Of all of them, where they are spoken to over TLS.
    certificate: Option<Certificate>,
    folder: TempDir,
}

/// One server or sentinel; killed when dropped.
#[derive(Debug)]
struct Node {
    child: Child,
    quits: Quits,
    port: Port,
    bus: Port,
    /// Where it is spoken to over TLS, if it is.
    encrypted: Option<Port>,
    _folder: TempDir,
}

impl Group {
    /// Starts them, and waits until each master has a replica that has all.
    #[must_use]
    pub fn start(kind: Kind) -> Self {
        Self::of(kind, None)
    }

    /// Sentinels, their master and its replica, all over TLS, with a certificate for this name.
    #[must_use]
    pub fn encrypted(name: &str) -> Self {
        Self::of(Kind::Sentinels, Some(name))
    }

    fn of(kind: Kind, name: Option<&str>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut group = Self {
            kind,
            password: random_hex(),
            watch_password: random_hex(),
            servers: Vec::new(),
            sentinels: Vec::new(),
            certificate: name.map(|name| Certificate::make(folder.path(), name)),
            folder,
        };
        match kind {
            Kind::Sentinels => group.start_sentinels(),
            Kind::Cluster => group.start_cluster(),
        }
        group
    }

    fn server(&self, arguments: &[&str]) -> Node {
        let mut all = vec!["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];
        let password = format!(">{}", self.password);
        all.extend(["--user", "cedargate", "on", &password]);
        all.extend(GRANTED.split_whitespace().chain(GRANTED_BESIDES));
        all.extend(arguments);
        Node::start(&all, None, self.certificate.as_ref())
    }

    fn start_sentinels(&mut self) {
        let master = self.server(&[]);
        let port = master.spoken_to().port().to_string();
        let replica = self.server(&["--replicaof", "127.0.0.1", &port]);
        self.servers = vec![master, replica];
        until_replicated(&self.servers[1]);
        let lines = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {port} 2\nsentinel down-after-milliseconds {MASTER} 1000\n\
             sentinel failover-timeout {MASTER} 4000\n\
             user watch on >{} -@all +sentinel|master +sentinel|get-master-addr-by-name\n",
            self.watch_password
        );
        self.sentinels = (0..3).map(|_| Node::start(&[], Some(&lines), self.certificate.as_ref())).collect();
        // A fail-over is decided by most, once they know of each other and of the replica.
        for sentinel in &self.sentinels {
            wait::until("a sentinel that knows of all", PATIENCE, || {
                let knows = |name: &str, count: &str| sentinel.told_of_master(name).as_deref() == Some(count);
                (knows("num-other-sentinels", "2") && knows("num-slaves", "1")).then_some(())
            });
        }
    }

    fn start_cluster(&mut self) {
        let node = |_| self.server(&["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]);
        self.servers = (0..6).map(node).collect();
        for (number, server) in self.servers.iter().enumerate() {
            order(server, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        }
        for (number, server) in (0_u16..).zip(&self.servers[..3]) {
            let bounds = [number, number + 1].map(|part| u32::from(part) * u32::from(SLOTS) / 3);
            let [first, last] = [bounds[0], bounds[1] - 1].map(|slot| slot.to_string());
            order(server, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        for other in &self.servers[1..] {
            let (port, bus) = (other.port().to_string(), other.bus.address().port().to_string());
            order(&self.servers[0], &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let all_know = |count: usize, word: &str| {
            wait::until("nodes that know of all", PATIENCE, || {
                let knows = |server: &Node| {
                    let told = server.say(&["CLUSTER", "NODES"]);
                    let known =
                        told.lines().filter(|line| line.contains(word) && line.contains(" connected"));
                    known.count() == count
                };
                self.servers.iter().all(knows).then_some(())
            });
        };
        all_know(6, "master");
        for (replica, master) in self.servers[3..].iter().zip(&self.servers) {
            let id = master.say(&["CLUSTER", "MYID"]);
            let id = id.lines().nth(1).expect("an id").to_owned();
            order(replica, &["CLUSTER", "REPLICATE", &id]);
        }
        all_know(3, "slave");
        self.servers[3..].iter().for_each(until_replicated);
        for server in &self.servers {
            wait::until("a cluster that is there", PATIENCE, || {
                server.say(&["CLUSTER", "INFO"]).contains("cluster_state:ok").then_some(())
            });
        }
    }

    /// The one that has this key: its number, as the others see it.
    fn master_of(&self, key: &str) -> usize {
        let is_master = |server: &Node| server.is_up() && server.say(&["ROLE"]).contains("master");
        let has = |server: &Node| match self.kind {
            Kind::Sentinels => true,
            // Another node says where the key is instead.
            Kind::Cluster => !server.say(&["EXISTS", key]).starts_with('-'),
        };
        let found = self.servers.iter().position(|server| is_master(server) && has(server));
        found.expect("a master that has it")
    }

    /// Waits until a replica has all that its master was told about this key, and kills the master, as a crash would. Gone
    /// is what was told in between.
    pub fn kill_master_of(&mut self, key: &str) {
        let number = self.master_of(key);
        self.replicate(key);
        self.servers[number].kill();
    }

    /// Has sentinels let the replica take over from its master, which is there and goes on for a while as if nothing were. Waits
    /// until all of them say so.
    pub fn relieve_master(&self) {
        let relieved = self.servers[self.master_of("")].spoken_to().port().to_string();
        for sentinel in &self.sentinels {
            wait::until("a sentinel with nothing to do", PATIENCE, || {
                (sentinel.told_of_master("flags").as_deref() == Some("master")).then_some(())
            });
        }
        let [first, ..] = self.sentinels.as_slice() else { panic!("a cluster has none") };
        // The time after which it gives an order up that it has taken. A replica says by itself, once a second, that it has
        // been promoted; where the machine is busy that may take longer than an election may.
        order(first, &["SENTINEL", "SET", MASTER, "failover-timeout", "600000"]);
        // It takes none before it has heard how the replica does.
        wait::until("an order that is taken", PATIENCE, || {
            first.say(&["SENTINEL", "FAILOVER", MASTER]).starts_with("+OK").then_some(())
        });
        for sentinel in &self.sentinels {
            wait::until("word of another master", PATIENCE, || {
                sentinel.told_of_master("port").filter(|port| *port != relieved)
            });
        }
    }

    /// How many connections of the gateway's user each server has.
    #[must_use]
    pub fn connections(&self) -> Vec<usize> {
        let of = |server: &Node| server.say(&["CLIENT", "LIST"]).matches(" user=cedargate ").count();
        self.servers.iter().map(of).collect()
    }

    /// Moves the slot of this key, with all that is in it, to another master of the cluster, a key at a time, as a tool
    /// does that has it serve on meanwhile.
    pub fn move_slot_of(&self, key: &str) {
        let from = self.master_of(key);
        let is_other =
            |(number, server): &(usize, &Node)| *number != from && server.say(&["ROLE"]).contains("master");
        let (to, _) = self.servers.iter().enumerate().find(is_other).expect("another master");
        let (from, to) = (&self.servers[from], &self.servers[to]);
        let ids = [from, to]
            .map(|server| server.say(&["CLUSTER", "MYID"]).lines().nth(1).expect("an id").to_owned());
        let slot = from.say(&["CLUSTER", "KEYSLOT", key]);
        let slot = slot.lines().next().and_then(|line| line.strip_prefix(':')).expect("a number");
        order(to, &["CLUSTER", "SETSLOT", slot, "IMPORTING", &ids[0]]);
        order(from, &["CLUSTER", "SETSLOT", slot, "MIGRATING", &ids[1]]);
        let port = to.port().to_string();
        loop {
            let told = from.say(&["CLUSTER", "GETKEYSINSLOT", slot, "1"]);
            let Some(key) = told.lines().nth(2) else { break };
            // Gone meanwhile is moved as well.
            let said = from.say(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
            assert!(said.starts_with("+OK") || said.starts_with("+NOKEY"), "{said}");
        }
        for server in [to, from].into_iter().chain(&self.servers).filter(|server| server.is_up()) {
            // A replica hears of it from its master.
            if server.say(&["ROLE"]).contains("master") {
                order(server, &["CLUSTER", "SETSLOT", slot, "NODE", &ids[1]]);
            }
        }
    }

    /// Waits until a replica of this key's master says that it has all of this moment. `WAIT` over a new connection waits
    /// for what was written over it alone.
    fn replicate(&self, key: &str) {
        let master = &self.servers[self.master_of(key)];
        let offset = |name: &str, end: &str| -> Option<u64> {
            let told = master.say(&["INFO", "replication"]);
            let (_, rest) = told.split_once(name)?;
            rest.split_once(end)?.0.parse().ok()
        };
        let written = offset("master_repl_offset:", "\r").expect("an offset");
        wait::until("a replica that has all", PATIENCE, || {
            offset("offset=", ",").filter(|had| *had >= written)
        });
    }

    /// The passwords of the gateway.
    #[must_use]
    pub fn passwords(&self) -> [String; 2] {
        [self.password.clone(), self.watch_password.clone()]
    }

    /// The lines of a table that name them, their URLs in files.
    #[must_use]
    pub fn lines_of(&self, table: &str) -> String {
        let hosts = |nodes: &[Node]| {
            let hosts: Vec<String> = nodes.iter().map(|node| node.spoken_to().to_string()).collect();
            hosts.join(",")
        };
        let Self { password, watch_password, .. } = self;
        match self.kind {
            Kind::Sentinels => {
                let (scheme, authorities) = match &self.certificate {
                    None => ("redis", String::new()),
                    Some(Certificate { cert, .. }) => {
                        ("rediss", format!("ca = {cert:?}\nsentinel_ca = {cert:?}\n"))
                    }
                };
                let url = self.file("url", &format!("{scheme}://cedargate:{password}@{MASTER}/0"));
                let of = format!("{scheme}://watch:{watch_password}@{}", hosts(&self.sentinels));
                let sentinels = self.file("sentinels", &of);
                format!("[{table}]\nurl = \"{url}\"\nsentinels = \"{sentinels}\"\n{authorities}")
            }
            Kind::Cluster => {
                let of = format!("redis://cedargate:{password}@{}", hosts(&self.servers));
                format!("[{table}]\nurl = \"{}\"\ncluster = true\n", self.file("url", &of))
            }
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).expect("a file");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        format!("file:{}", file.display())
    }
}

/// Says something where only `+OK` will do.
fn order(server: &Node, words: &[&str]) {
    // A sentinel knows no word to leave with, and says so behind its answer.
    let said = server.say(words);
    assert_eq!(said.lines().next(), Some("+OK"), "{words:?}: {said}");
}

fn until_replicated(replica: &Node) {
    wait::until("a replica that follows its master", PATIENCE, || {
        replica.say(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
    });
}

impl Node {
    /// Starts one with these arguments, or a sentinel with these lines in a file that it may write to; where it has a
    /// certificate, spoken to over TLS by all but this test.
    fn start(arguments: &[&str], sentinel: Option<&str>, certificate: Option<&Certificate>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (port, bus) = (Port::take(), Port::take());
        let numbers = [&port, &bus].map(|port| port.address().port().to_string());
        let mut command = Command::new("redis-server");
        if let Some(lines) = sentinel {
            let file = folder.path().join("sentinel.conf");
            std::fs::write(&file, lines).expect("a file");
            command.arg(file).arg("--sentinel");
        }
        command.args(["--bind", "127.0.0.1", "--port", &numbers[0], "--loglevel", "warning"]);
        command.arg("--dir").arg(folder.path());
        command.args(arguments);
        if arguments.contains(&"--cluster-enabled") {
            command.args(["--cluster-port", &numbers[1]]);
        }
        let encrypted = certificate.map(|Certificate { cert, key, .. }| {
            let port = Port::take();
            command.args(["--tls-port", &port.address().port().to_string()]);
            command.args(["--tls-auth-clients", "no", "--tls-replication", "yes"]);
            command.arg("--tls-cert-file").arg(cert).arg("--tls-key-file").arg(key);
            command.arg("--tls-ca-cert-file").arg(cert);
            port
        });
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("redis-server is installed: tests/run sees to it");
        let quits = if sentinel.is_some() { Quits::No } else { Quits::Yes };
        let node = Self { child, quits, port, bus, encrypted, _folder: folder };
        wait::until("redis", PATIENCE, || TcpStream::connect(node.address()).ok());
        node
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn port(&self) -> u16 {
        self.address().port()
    }

    /// Where gateways, and others of its kind, speak to it.
    fn spoken_to(&self) -> SocketAddr {
        self.encrypted.as_ref().unwrap_or(&self.port).address()
    }

    /// What a sentinel says of the master under this name.
    fn told_of_master(&self, name: &str) -> Option<String> {
        let told = self.say(&["SENTINEL", "MASTER", MASTER]);
        told.lines().skip_while(|line| *line != name).nth(2).map(str::to_owned)
    }

    fn is_up(&self) -> bool {
        TcpStream::connect(self.address()).is_ok()
    }

    fn say(&self, words: &[&str]) -> String {
        say(self.address(), words, self.quits)
    }

    fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
