//! A PostgreSQL of the test's own, on a free port with a folder of its own, stopped when dropped.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub const PASSWORD: &str = "correct-horse-battery";

pub struct Postgres {
    folder: tempfile::TempDir,
    port: u16,
    server: Option<Child>,
    /// It takes no connection over the network but by TLS.
    is_tls: bool,
}

impl Postgres {
    /// An initialised and running database.
    pub async fn start() -> Self {
        let mut postgres = Self::stopped();
        postgres.run().await;
        postgres
    }

    /// An initialised database that does not run yet.
    pub fn stopped() -> Self {
        // Not below TMPDIR, which another user may not be allowed to enter.
        let folder = tempfile::Builder::new().prefix("scouter-postgres-").tempdir_in("/tmp").unwrap();
        if let Some((user, group)) = another_user() {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut initdb = program("initdb");
        initdb.args(["--username=scouter", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(folder.path().join("data"));
        let made = initdb.stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        Self { folder, port, server: None, is_tls: false }
    }

    /// A running database that has this certificate and takes TLS alone.
    pub async fn start_with_tls(certificate_pem: &str, key_pem: &str) -> Self {
        let mut postgres = Self::stopped();
        for (name, pem) in [("server.crt", certificate_pem), ("server.key", key_pem)] {
            let path = postgres.folder.path().join("data").join(name);
            std::fs::write(&path, pem).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = another_user() {
                std::os::unix::fs::chown(&path, Some(user), Some(group)).unwrap();
            }
        }
        let clients = postgres.folder.path().join("data/pg_hba.conf");
        std::fs::write(&clients, "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n").unwrap();
        postgres.is_tls = true;
        postgres.run().await;
        postgres
    }

    pub fn uri(&self) -> String {
        self.uri_at("127.0.0.1")
    }

    /// The address by another name of the host.
    pub fn uri_at(&self, host: &str) -> String {
        format!("postgres://scouter:{PASSWORD}@{host}:{}/postgres", self.port)
    }

    /// Starts it and waits until it answers.
    pub async fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut server = program("postgres");
        server.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.folder.path()).args(["-p", &self.port.to_string()]);
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB"]);
        if self.is_tls {
            server.args(["-c", "ssl=on"]);
        }
        self.server = Some(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.try_client().await {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL does not answer: {error}: {}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it at once, as a crash would: connections break, and it recovers when it runs again.
    pub fn crash(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = Command::new("kill").args(["-s", "QUIT", &server.id().to_string()]).status();
            server.wait().unwrap();
        }
    }

    async fn try_client(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        // Tests look at what is there through the socket of this machine.
        let socket = format!("host={} port={} user=scouter password={PASSWORD} dbname=postgres", self.folder.path().display(), self.port);
        let (client, connection) = tokio_postgres::connect(&socket, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub async fn client(&self) -> tokio_postgres::Client {
        self.try_client().await.unwrap()
    }

    /// The one number that a query answers with, 0 while there are no tables.
    pub async fn number(&self, query: &str) -> i64 {
        self.client().await.query_one(query, &[]).await.map_or(0, |row| row.get(0))
    }

    pub async fn count(&self, table: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM scouter.{table}")).await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// A program of PostgreSQL, to be run by a user who may: it refuses to be run by root.
fn program(name: &str) -> Command {
    let mut command = Command::new(find(name));
    if let Some((user, group)) = another_user() {
        command.uid(user).gid(group);
    }
    command.current_dir("/tmp");
    command
}

/// In the path, or where Debian has it.
fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    let of_debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let of_debian = of_debian.map(|version| version.path().join("bin").join(name));
    let found = in_path.chain(of_debian).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed; on Debian: apt-get install postgresql"))
}

/// The user and the group `postgres`, or nobody, when root runs the tests.
fn another_user() -> Option<(u32, u32)> {
    let number = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok()
    };
    if number(&["-u"]) != Some(0) {
        return None;
    }
    let of = |user: &str| Some((number(&["-u", user])?, number(&["-g", user])?));
    of("postgres").or_else(|| of("nobody"))
}
