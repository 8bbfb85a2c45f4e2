//! A server that has no room for now.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use super::{PATIENCE, Receiver, Redis, Route as _, Side, built, request, soon};

const MIB: f64 = 1024.0 * 1024.0;
/// The least there can be: 18 MiB of it are for requests.
const TINY: [&str; 8] = [
    "--memory-budget-mib=160",
    "--max-request-mib=1",
    "--max-connections=64",
    "--max-connections-per-address=64",
    "--silence-timeout-seconds=120",
    "--body-timeout-seconds=120",
    "--shutdown-timeout-seconds=60",
    "--log-filter=info",
];
/// Of messages, each far too large for the part that is kept for those who need little.
const MESSAGES: u64 = 30;

/// Nothing more is fetched than before the first of them was told to wait, nothing of it is lost, and it goes on when there is room.
pub(super) async fn messages_stay_with_the_broker_while_there_is_no_room<S: Side>() {
    let mut side = S::open_with(&TINY).await;
    let others = Others::fill(side.server()).await;
    let one = request(0, 1_000).len() as u64 / 1_000;
    let spans = 400 * 1024 / one;
    let transport = built(side.config());
    let refusals = side.server().metric("scouter_admission_refusals_total").await;
    for number in 0..MESSAGES {
        transport.send(request(number, spans), soon(PATIENCE)).await.expect("the broker has room");
    }
    let seen = Instant::now();
    while seen.elapsed() < Duration::from_secs(4) {
        let held = side.held(MESSAGES).await;
        assert!(held <= 10, "the server has {held} messages and room for none");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(side.server().metric("scouter_admission_refusals_total").await > refusals, "none was told to wait");
    assert_eq!(side.spans().await, 0, "there was room");
    drop(others);
    side.expect_spans(MESSAGES * spans).await;
    side.expect_nothing_waits().await;
    assert!(side.dead().await.is_empty());
}

/// Redis keeps no published message: what finds no place is lost, and counted. The rest is stored when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_messages_without_a_place_are_lost_and_counted() {
    let side = Redis::open_with(&TINY).await;
    let others = Others::fill(side.server()).await;
    for number in 0..60 {
        let span = json!({
            "traceId": format!("{:032x}", number + 1), "spanId": "b7ad6b7169203331", "name": "op", "kind": 1,
            "startTimeUnixNano": "1777151904123456789", "endTimeUnixNano": "1777151904133456789",
            "attributes": [{"key": "text", "value": {"stringValue": "x".repeat(400 * 1024)}}],
        });
        let trace = json!({"request": {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}});
        side.publish(trace.to_string().as_bytes()).await;
    }
    let lost = async || side.server().metric("scouter_published_losses_total{reason=\"no_room\"}").await as u64;
    let some_are_lost = async {
        while lost().await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, some_are_lost).await.expect("sixteen MiB of them are kept");
    drop(others);
    let settled = async {
        while side.spans().await + lost().await < 60 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, settled).await.expect("each is stored or counted");
    let (stored, lost) = (side.spans().await, lost().await);
    assert_eq!(stored + lost, 60);
    assert!(stored >= 30, "{stored} of 60 were stored, and there was a place for forty");
    side.publish(b"{\"poison\"").await;
    let counted = async {
        while side.server().metric("scouter_published_losses_total{reason=\"unreadable\"}").await < 1.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, counted).await.expect("one that cannot be read is counted too");
}

/// Requests whose bodies stay half sent: they hold all the room that there is for large ones.
struct Others(Vec<TcpStream>);

impl Others {
    async fn fill(receiver: &Receiver) -> Self {
        let token = receiver.server().token().await;
        let mut others = Self(Vec::new());
        let filled = async {
            // The rest is less than a message.
            while receiver.metric("scouter_admission_total_bytes").await * 15.0 / 16.0
                - receiver.metric("scouter_admission_used_bytes").await
                > MIB / 4.0
            {
                // They have different sizes, so that the last ones find room too.
                for size in [900, 450, 200] {
                    let mut stream = TcpStream::connect(&receiver.addresses.otlp_http).await.expect("the server listens");
                    let head = format!(
                        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
                        size * 1024 + 1
                    );
                    let body = vec![0; size * 1024];
                    let sent = async {
                        stream.write_all(head.as_bytes()).await?;
                        stream.write_all(&body).await
                    };
                    // One that is refused may be hung up on.
                    if sent.await.is_ok() {
                        others.0.push(stream);
                    }
                }
                others.0.retain(|stream| {
                    // One that has its answer holds nothing.
                    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
                });
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, filled).await.expect("the memory is full");
        others
    }
}
