//! Brokers, and an object store, as processes of a test: on free ports of 127.0.0.1, with folders of their own, gone with the test.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

pub(crate) mod kafka;
pub(crate) mod object_store;

/// A broker written in Erlang or Java, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// The password of every broker here.
pub(crate) const PASSWORD: &str = "brokers-password";

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Kafka,
    Redis,
    RabbitMq,
}

/// What is unusual about a broker.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings {
    /// The largest message that it takes.
    pub(crate) max_message_bytes: Option<usize>,
    /// RabbitMQ: there is no room on its disk. It lets everybody in, and stops to read from whoever publishes.
    pub(crate) is_full: bool,
    /// Kafka: requests are not cut, because topics have one partition. So they have with a limit for messages, too.
    pub(crate) has_one_partition: bool,
}

/// A running broker, or one that was killed. It listens in plaintext at one port, and with TLS at another.
pub(crate) struct Broker {
    kind: Kind,
    pub(crate) settings: Settings,
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    /// RabbitMQ's other ports: for its own kind, and of the daemon that knows names. Kafka's: without a password, and of its controller.
    ports: [u16; 2],
    folder: TempDir,
    running: Vec<Group>,
    was_killed: bool,
}

/// A new queue of RabbitMQ outlives a kill this much later: the decision to make it is in memory for up to two seconds after it said that it is
/// there.
const DEFINITION: Duration = Duration::from_millis(2500);

/// A process and all that it started; killed when dropped.
struct Group(Child);

impl Group {
    /// What it says goes to the end of `log`.
    fn spawn(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).expect("the folder is writable");
        let twin = log.try_clone().expect("a handle can be copied");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(twin).process_group(0).spawn();
        Self(child.expect("the broker's program starts"))
    }

    async fn signal(&self, name: &str) {
        let pid = self.0.id().expect("it is running");
        let told = Command::new("kill").args([&format!("-{name}"), "--", &format!("-{pid}")]).status().await.expect("kill runs");
        assert!(told.success(), "{pid} was gone");
    }

    /// As `kill -9` does; waits for its end.
    async fn kill(mut self) {
        self.signal("KILL").await;
        self.0.wait().await.expect("it ended");
    }

    /// How it ended, if it did.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("its state can be read")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.id() {
            // The group has the number of its first process, which is not reaped yet.
            let _was_gone = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).stderr(Stdio::null()).status();
        }
    }
}

impl Broker {
    pub(crate) async fn start(kind: Kind) -> Self {
        Self::start_with(kind, Settings::default()).await
    }

    pub(crate) async fn start_with(kind: Kind, settings: Settings) -> Self {
        let [port, tls_port, first, second] = free_ports();
        let folder = TempDir::new().expect("a folder for the broker");
        let mut broker = Self { kind, settings, port, tls_port, ports: [first, second], folder, running: Vec::new(), was_killed: false };
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("a certificate");
        std::fs::write(broker.certificate(), cert.pem()).expect("the folder is writable");
        std::fs::write(broker.key(), signing_key.serialize_pem()).expect("the folder is writable");
        broker.revive().await;
        broker
    }

    /// PEM file with the certificate of the port with TLS, which no authority signed.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// CPU time of its processes so far.
    pub(crate) fn cpu(&self) -> Duration {
        let groups: Vec<u32> = self.running.iter().filter_map(|group| group.0.id()).collect();
        processes().filter(|process| groups.contains(&process.group)).map(|process| process.cpu).sum()
    }

    /// As `kill -9` does. RabbitMQ knows its queues afterwards; with one that it forgot all would be gone that it confirmed.
    pub(crate) async fn kill(&mut self) {
        if self.kind == Kind::RabbitMq && !std::mem::replace(&mut self.was_killed, true) {
            tokio::time::sleep(DEFINITION).await;
        }
        for group in self.running.drain(..) {
            group.kill().await;
        }
    }

    /// At the same port, with what is in its folder.
    pub(crate) async fn revive(&mut self) {
        match self.kind {
            Kind::Kafka => self.start_kafka().await,
            Kind::Redis => self.start_redis(),
            Kind::RabbitMq => self.start_rabbitmq(),
        }
        let log = self.log_path();
        let answers = async {
            while !self.is_ready().await {
                for group in &mut self.running {
                    let ended = group.ended();
                    assert!(ended.is_none(), "{:?} ended with {ended:?}:\n{}", self.kind, last_lines(&log));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if timeout(START_TIMEOUT, answers).await.is_err() {
            panic!("{:?} did not come up:\n{}", self.kind, last_lines(&log));
        }
    }

    pub(crate) fn address(&self) -> String {
        match self.kind {
            Kind::Kafka => format!("127.0.0.1:{}", self.port),
            Kind::Redis => format!("redis://:{PASSWORD}@127.0.0.1:{}", self.port),
            Kind::RabbitMq => format!("amqp://guest:guest@127.0.0.1:{}", self.port),
        }
    }

    /// What tells a server of it.
    pub(crate) fn flags(&self) -> Vec<String> {
        let flags: &[&str] = match self.kind {
            Kind::Kafka => &kafka::FLAGS,
            Kind::Redis => &["--redis-addr"],
            Kind::RabbitMq => &["--rabbitmq-addr"],
        };
        flags.iter().map(|flag| (*flag).to_owned()).chain([self.address()]).collect()
    }

    /// Kafka's, for those who have no password.
    pub(crate) fn plain_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// Its processes stand still, or go on: connections stay, new ones are accepted, and nobody answers.
    pub(crate) async fn signal(&self, name: &str) {
        for group in &self.running {
            group.signal(name).await;
        }
    }

    async fn is_ready(&self) -> bool {
        match self.kind {
            Kind::Kafka => kafka::is_ready(self.plain_address()).await,
            Kind::Redis => {
                let connection = async { redis::Client::open(self.address())?.get_multiplexed_async_connection().await };
                match connection.await {
                    Ok(mut connection) => redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok(),
                    Err(_) => false,
                }
            }
            Kind::RabbitMq => {
                let mut arguments = amqprs::connection::OpenConnectionArguments::new("127.0.0.1", self.port, "guest", "guest");
                match amqprs::connection::Connection::open(&arguments.finish()).await {
                    Ok(connection) => connection.close().await.is_ok(),
                    Err(_) => false,
                }
            }
        }
    }

    async fn start_kafka(&mut self) {
        let pem = [self.key(), self.certificate()].map(|file| std::fs::read_to_string(file).expect("it is there"));
        std::fs::write(self.folder.path().join("store.pem"), pem.concat()).expect("the folder is writable");
        let command = kafka::command(self.folder.path(), self.port, self.tls_port, self.ports, self.settings).await;
        self.spawn(command);
    }

    fn start_redis(&mut self) {
        let mut command = Command::new(program("redis-server", &[]));
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--requirepass", PASSWORD]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(self.folder.path());
        command.args(["--tls-port", &self.tls_port.to_string(), "--tls-auth-clients", "no", "--tls-cert-file"]).arg(self.certificate());
        command.arg("--tls-ca-cert-file").arg(self.certificate()).arg("--tls-key-file").arg(self.key());
        if let Some(bytes) = self.settings.max_message_bytes {
            command.args(["--proto-max-bulk-len", &bytes.to_string()]);
        }
        self.spawn(command);
    }

    fn start_rabbitmq(&mut self) {
        let [between, names] = self.ports;
        let mut daemon = Command::new(program("epmd", &[]));
        daemon.args(["-port", &names.to_string(), "-address", "127.0.0.1"]);
        self.spawn(daemon);
        let path = self.folder.path().to_owned();
        let config = path.join("rabbitmq.conf");
        let least_free_disk = if self.settings.is_full { "1000000GB" } else { "10MB" };
        let mut lines = vec![
            "vm_memory_high_watermark.absolute = 512MB".to_owned(),
            format!("disk_free_limit.absolute = {least_free_disk}"),
            format!("listeners.ssl.default = 127.0.0.1:{}", self.tls_port),
            format!("ssl_options.cacertfile = {}", self.certificate().display()),
            format!("ssl_options.certfile = {}", self.certificate().display()),
            format!("ssl_options.keyfile = {}", self.key().display()),
            "ssl_options.verify = verify_none".to_owned(),
        ];
        lines.extend(self.settings.max_message_bytes.map(|bytes| format!("max_message_size = {bytes}")));
        std::fs::write(&config, lines.join("\n") + "\n").expect("the folder is writable");
        std::fs::write(path.join("plugins"), "[].\n").expect("the folder is writable");
        // Debian's own start script changes to another user; this is what it starts.
        let mut command = Command::new(program("rabbitmq-server", &["/usr/lib/rabbitmq/bin"]));
        command
            .env("HOME", &path)
            .env("ERL_EPMD_PORT", names.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", between.to_string())
            .env("RABBITMQ_CONFIG_FILE", &config)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path.join("plugins"))
            .env("RABBITMQ_MNESIA_BASE", path.join("data"))
            .env("RABBITMQ_LOG_BASE", path.join("log"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_PID_FILE", path.join("pid"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none");
        self.spawn(command);
    }

    fn spawn(&mut self, command: Command) {
        self.running.push(Group::spawn(command, &self.log_path()));
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }
}

/// The end of a log.
fn last_lines(log: &Path) -> String {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    log.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// One line of `/proc`.
pub(crate) struct Process {
    pub(crate) id: u32,
    pub(crate) group: u32,
    /// In itself and in the kernel for it.
    pub(crate) cpu: Duration,
}

/// All processes there are.
pub(crate) fn processes() -> impl Iterator<Item = Process> {
    // Linux has counted a hundred ticks a second for programs since before there were brokers.
    const TICK: Duration = Duration::from_millis(10);
    std::fs::read_dir("/proc").expect("Linux").flatten().filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // Its name, in brackets, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
        Some(Process { id, group: fields.get(2)?.parse().ok()?, cpu: TICK * ticks })
    })
}

/// Ports that nobody has now, and that nobody gets while a broker is not there yet or is dead: they are below those that the operating system
/// gives away, and no other broker of this process gets them. Processes begin at different ones.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    const FIRST: u16 = 10_000;
    const PORTS: u16 = 22_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % u32::from(PORTS / 100)).expect("it is small") * 100;
    let is_free = |port: &u16| TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], *port))).is_ok();
    let next = || FIRST + (process + TAKEN.fetch_add(1, Ordering::Relaxed) % PORTS) % PORTS;
    [(); COUNT].map(|()| (0..PORTS).map(|_| next()).find(is_free).expect("a free port"))
}

/// A program in `folders` or in the PATH.
fn program(name: &str, folders: &[&str]) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = folders.iter().copied().chain(path.split(':')).chain(["/usr/sbin", "/usr/bin"]);
    let found = folders.find_map(|folder| Some(Path::new(folder).join(name)).filter(|path| path.is_file()));
    found.unwrap_or_else(|| panic!("there is no {name}; scripts/setup.sh installs it"))
}

/// What scripts/setup.sh got, as `name` in its cache; or where `variable` says that it is.
fn installed(variable: &str, name: &str) -> PathBuf {
    let in_cache = || {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache"))).expect("there is a home");
        cache.join("scouter").join(name)
    };
    std::env::var_os(variable).map_or_else(in_cache, PathBuf::from)
}
