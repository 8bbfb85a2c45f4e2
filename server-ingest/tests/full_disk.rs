//! A running server whose disk is full: what it says, and what becomes of it when there is room again.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::HashMap,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use scouter_tonic::path::OTLP_TRACE_EXPORT;
use support::{TestServer, grpc_over, otlp_request, wait_until};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

const SPANS: u64 = 2000;
const CLIENTS: u128 = 12;

/// A file system in memory in the place of a server's storage. Unmounted when dropped.
struct SmallDisk {
    folder: PathBuf,
    storage: PathBuf,
}

impl SmallDisk {
    /// None, with the reason on stdout, where this process may not mount.
    fn mount(folder: &Path, mib: u32) -> Option<Self> {
        let storage = folder.join("storage");
        std::fs::create_dir(&storage).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(&storage).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self { folder: folder.to_owned(), storage }),
            Ok(output) => {
                println!("skipped, no file system can be mounted: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped, mount cannot be run: {error}");
                None
            }
        }
    }

    fn fill(&self) {
        let mut file = File::create(self.storage.join("filler")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.storage.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.storage).status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn names_the_disk(text: &str) -> bool {
    ["No space left", "disk", "full"].iter().any(|words| text.contains(words)) && !text.contains("memory budget")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_named_and_what_was_acknowledged_is_there_when_it_has_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), 256) else { return };
    let server = TestServer::start_in_with(folder, &["--max-request-mib", "4", "--memory-budget-mib", "192"]).await;
    let (bearer, stop) = (format!("Bearer {}", server.token), Arc::new(AtomicBool::new(false)));
    disk.fill();

    // More than there is memory for, by clients that come again.
    let mut clients = tokio::task::JoinSet::new();
    for number in 1..=CLIENTS {
        let (channel, bearer, stop) = (server.channel("otlp-grpc").await, bearer.clone(), Arc::clone(&stop));
        clients.spawn(async move {
            let (mut acked, mut refusals) = (Vec::new(), Vec::new());
            for trace in (number << 64) + 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let body = otlp_request(trace, SPANS).encode_to_vec();
                match grpc_over::<ExportTraceServiceResponse>(channel.clone(), OTLP_TRACE_EXPORT, &bearer, body, None).await {
                    Ok(_) => acked.push(trace),
                    Err(status) => {
                        refusals.push(status);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            (acked, refusals)
        });
    }
    let readiness = async || {
        let answer = reqwest::get(server.url("http", "/readyz")).await.unwrap();
        (answer.status().as_u16(), answer.headers().contains_key("retry-after"), answer.text().await.unwrap())
    };
    wait_until("it is not ready", async || readiness().await.0 == 503).await;
    let (status, says_when, text) = readiness().await;
    assert!(status == 503 && says_when && names_the_disk(&text), "{text}");
    assert_eq!(reqwest::get(server.url("http", "/healthz")).await.unwrap().status(), 200, "starting it again would not help");
    let health = async || {
        let mut health = HealthClient::new(server.channel("grpc").await);
        health.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner().status()
    };
    wait_until("gRPC's health says so too", async || health().await == ServingStatus::NotServing).await;
    wait_until("the log says so", async || server.log().contains("nothing can be stored for now")).await;
    // Those that came from now on are told why.
    let refused = async || {
        let body = otlp_request(1, SPANS).encode_to_vec();
        let sent = grpc_over::<ExportTraceServiceResponse>(server.channel("otlp-grpc").await, OTLP_TRACE_EXPORT, &bearer, body, None).await;
        sent.unwrap_err()
    };
    for _ in 0..3 {
        let status = refused().await;
        assert!(status.code() == tonic::Code::Unavailable && names_the_disk(status.message()), "{status}");
    }
    stop.store(true, Ordering::Relaxed);
    let (mut acked, mut refusals) = (Vec::new(), 0);
    for (taken, refused) in clients.join_all().await {
        assert!(refused.iter().all(|status| status.code() == tonic::Code::Unavailable), "{refused:?}");
        refusals += refused.len();
        acked.extend(taken);
    }
    assert!(!acked.is_empty() && refusals > 0, "{} taken, {refusals} refused", acked.len());

    disk.make_room();
    let begun = Instant::now();
    wait_until("it is ready again", async || readiness().await.0 == 200).await;
    let ready_after = begun.elapsed();
    wait_until("gRPC's health says so too", async || health().await == ServingStatus::Serving).await;
    let body = otlp_request(2, SPANS).encode_to_vec();
    wait_until("requests are taken again", async || {
        let channel = server.channel("otlp-grpc").await;
        grpc_over::<ExportTraceServiceResponse>(channel, OTLP_TRACE_EXPORT, &bearer, body.clone(), None).await.is_ok()
    })
    .await;
    println!("{} taken, {refusals} refused; ready after {ready_after:?}, taken again after {:?}", acked.len(), begun.elapsed());
    // The pauses between attempts are 2 s at most; the rest is for a machine that has other things to do.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());

    let rows = server.sql("SELECT encode(trace_id, 'hex'), count(*) FROM spans GROUP BY 1").await;
    let stored: HashMap<String, u64> =
        rows.into_iter().map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_u64().unwrap())).collect();
    assert!(stored.values().all(|spans| *spans == SPANS), "a request is stored whole and once");
    for trace in acked {
        assert!(stored.contains_key(&format!("{trace:032x}")), "{trace:032x} was acknowledged");
    }
}
