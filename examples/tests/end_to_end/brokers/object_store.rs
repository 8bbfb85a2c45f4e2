//! An object store that is spoken to as S3 is: SeaweedFS, its four parts in one process.
//!
//! It has one bucket, and one user, who has to sign requests. What it took is with the operating system when it answers, and outlives it.

use std::{path::PathBuf, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use super::{Group, PASSWORD, START_TIMEOUT, free_ports, installed, last_lines};

mod tests;

/// As in scripts/setup.sh.
const VERSION: &str = "4.48";

/// Who has the password.
const USER: &str = "scouter";
const BUCKET: &str = "scouter-bucket";
/// The store has none, but who signs names one.
const REGION: &str = "us-east-1";

/// Of one question whether it is ready.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Who keeps what, the bytes, the names of objects, and who speaks S3.
const PARTS: [&str; 4] = ["master", "volume", "filer", "s3"];

/// The ports of one part.
#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    /// For the other parts. Left to itself, it would be 10000 above the first.
    grpc: u16,
}

/// A running object store, or one that was killed. Dropping it kills it.
pub(crate) struct ObjectStore {
    running: Option<Group>,
    ports: [Ports; PARTS.len()],
    folder: TempDir,
}

impl ObjectStore {
    /// With an empty bucket.
    pub(crate) async fn start() -> Self {
        let ports = [(); PARTS.len()].map(|()| {
            let [http, grpc] = free_ports();
            Ports { http, grpc }
        });
        let folder = TempDir::new().expect("a folder for the object store");
        let mut store = Self { running: None, ports, folder };
        let credentials = json!([{ "accessKey": USER, "secretKey": PASSWORD }]);
        let users = json!({ "identities": [{ "name": USER, "credentials": credentials, "actions": ["Admin"] }] });
        std::fs::write(store.file("users.json"), users.to_string()).expect("the folder is writable");
        std::fs::create_dir(store.file("data")).expect("the folder is writable");
        store.start_again().await;
        store
    }

    /// At the same ports, with what is in its folder.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.running.is_none(), "it was not killed");
        let log = self.file("log");
        let mut group = Group::spawn(self.command(), &log);
        let answers = async {
            while !self.is_ready().await {
                let ended = group.ended();
                assert!(ended.is_none(), "the object store ended with {ended:?}:\n{}", last_lines(&log));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(START_TIMEOUT, answers).await.is_err() {
            panic!("the object store did not come up:\n{}", last_lines(&log));
        }
        self.running = Some(group);
    }

    /// As `kill -9` does.
    pub(crate) async fn kill(&mut self) {
        self.running.take().expect("it is running").kill().await;
    }

    /// Connections stay, new ones are accepted, and nobody answers.
    pub(crate) async fn stand_still(&self) {
        self.running.as_ref().expect("it is running").signal("STOP").await;
    }

    pub(crate) async fn go_on(&self) {
        self.running.as_ref().expect("it is running").signal("CONT").await;
    }

    pub(crate) fn endpoint(&self) -> String {
        let [.., s3] = self.ports;
        format!("http://127.0.0.1:{}", s3.http)
    }

    pub(crate) fn bucket(&self) -> &'static str {
        BUCKET
    }

    pub(crate) fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.bucket())
    }

    /// What tells a program where the store is, and how to sign.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ENDPOINT_URL", &*self.endpoint()),
            ("AWS_ACCESS_KEY_ID", USER),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD),
            ("AWS_REGION", REGION),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Not `weed mini`, which is up a second sooner: it has workers that look for their server at a port that is not theirs.
    fn command(&self) -> Command {
        let program = installed("SCOUTER_WEED", &format!("seaweedfs-{VERSION}/weed"));
        assert!(program.is_file(), "there is no SeaweedFS at {}; scripts/setup.sh gets it", program.display());
        let mut command = Command::new(program);
        // It reads settings from its home and from where it runs, and another user's credentials from the environment.
        command.env("HOME", self.folder.path()).current_dir(self.folder.path());
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.args(["-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]);
        for (part, ports) in PARTS.iter().zip(self.ports) {
            command.args([format!("-{part}.port={}", ports.http), format!("-{part}.port.grpc={}", ports.grpc)]);
        }
        let paths = [("dir", "data"), ("s3.config", "users.json"), ("s3.localSocket", "s3.sock"), ("filer.localSocket", "filer.sock")];
        command.args(paths.map(|(flag, name)| format!("-{flag}={}", self.file(name).display())));
        // Alone, it holds no election. A master that remembers volumes may wait 15 seconds for servers to name them.
        command.args(["-master.peers=none", "-master.resumeState=false", "-master.telemetry=false"]);
        // A bucket takes seven at once. They are files, and begin empty.
        command.arg("-volume.max=100");
        command.args(["-s3.autoCreateBucket=false", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command
    }

    /// Whether it speaks S3, has its bucket, and takes bytes. Its parts find each other when all of them run.
    async fn is_ready(&self) -> bool {
        let [.., filer, _s3] = self.ports;
        let at_filer = |path: &str| format!("http://127.0.0.1:{}/{path}", filer.http);
        let client = reqwest::Client::builder().timeout(ANSWER_TIMEOUT).build().expect("good settings");
        let answers = async {
            client.get(self.endpoint() + "/healthz").send().await?.error_for_status()?;
            // A folder at this place is a bucket. One that was there is a conflict, and stays.
            let made = client.post(at_filer(&format!("buckets/{BUCKET}/"))).send().await?;
            if made.status() != reqwest::StatusCode::CONFLICT {
                made.error_for_status()?;
            }
            // In no bucket.
            client.put(at_filer("ready")).body("ready").send().await?.error_for_status()?;
            reqwest::Result::Ok(())
        };
        answers.await.is_ok()
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        drop(self.running.take());
        // It makes these in this folder, whatever it is told.
        for (part, ports) in PARTS.iter().zip(self.ports) {
            let _was_not_made = std::fs::remove_file(format!("/tmp/seaweedfs-{part}-grpc-{}.sock", ports.grpc));
        }
    }
}
