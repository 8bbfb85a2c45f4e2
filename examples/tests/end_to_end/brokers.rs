//! Brokers as processes of a test: on free ports of 127.0.0.1, with folders of their own, gone with the test.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// A broker written in Erlang or Java, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// The password of every broker here.
pub(crate) const PASSWORD: &str = "brokers-password";

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    RabbitMq,
}

/// A running broker, or one that was killed.
pub(crate) struct Broker {
    kind: Kind,
    pub(crate) port: u16,
    /// RabbitMQ's other ports: for its own kind, and of the daemon that knows names.
    ports: [u16; 2],
    folder: TempDir,
    running: Vec<Group>,
}

/// A process and all that it started; killed when dropped.
struct Group(Child);

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
        let [port, first, second] = free_ports();
        let folder = TempDir::new().expect("a folder for the broker");
        let mut broker = Self { kind, port, ports: [first, second], folder, running: Vec::new() };
        broker.revive().await;
        broker
    }

    /// As `kill -9` does.
    pub(crate) async fn kill(&mut self) {
        for mut group in self.running.drain(..) {
            let pid = group.0.id().expect("it is running");
            let killed = Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).status().await.expect("kill runs");
            assert!(killed.success(), "{:?} was gone", self.kind);
            group.0.wait().await.expect("it ended");
        }
    }

    /// At the same port, with what is in its folder.
    pub(crate) async fn revive(&mut self) {
        match self.kind {
            Kind::Redis => self.start_redis(),
            Kind::RabbitMq => self.start_rabbitmq(),
        }
        let answers = async {
            while !self.is_ready().await {
                for group in &mut self.running {
                    let ended = group.0.try_wait().expect("its state can be read");
                    assert!(ended.is_none(), "{:?} ended with {ended:?}:\n{}", self.kind, self.log());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if timeout(START_TIMEOUT, answers).await.is_err() {
            panic!("{:?} did not come up:\n{}", self.kind, self.log());
        }
    }

    pub(crate) fn address(&self) -> String {
        match self.kind {
            Kind::Redis => format!("redis://:{PASSWORD}@127.0.0.1:{}", self.port),
            Kind::RabbitMq => format!("amqp://guest:guest@127.0.0.1:{}", self.port),
        }
    }

    async fn is_ready(&self) -> bool {
        match self.kind {
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

    fn start_redis(&mut self) {
        let mut command = Command::new(program("redis-server", &[]));
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--requirepass", PASSWORD]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(self.folder.path());
        self.spawn(command);
    }

    fn start_rabbitmq(&mut self) {
        let [between, names] = self.ports;
        let mut daemon = Command::new(program("epmd", &[]));
        daemon.args(["-port", &names.to_string(), "-address", "127.0.0.1"]);
        self.spawn(daemon);
        let path = self.folder.path().to_owned();
        let config = path.join("rabbitmq.conf");
        std::fs::write(&config, "vm_memory_high_watermark.absolute = 512MB\ndisk_free_limit.absolute = 10MB\n")
            .expect("the folder is writable");
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

    fn spawn(&mut self, mut command: Command) {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).expect("the folder is writable");
        let twin = log.try_clone().expect("a handle can be copied");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(twin).process_group(0).spawn().expect("the broker's program starts");
        self.running.push(Group(child));
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        log.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
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
