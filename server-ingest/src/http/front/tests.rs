use std::time::Duration;

use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::listener::{ConnectionLimits, Hinges};

#[tokio::test]
async fn health_is_served_from_the_start_and_readiness_when_there_is_one() {
    let life = Arc::new(Life::default());
    let front = Front::new(Arc::clone(&life));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let limits = ConnectionLimits {
        max_connections: 16,
        max_connections_per_address: None,
        max_streams: 16,
        window_bytes: 1024 * 1024,
        buffers_bytes: 1024 * 1024,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
    };
    tokio::spawn(Hinges::new(limits, Arc::default()).serve(listener, None, front.clone(), CancellationToken::new()));
    let get_path = async |path: &str| reqwest::get(format!("http://{address}{path}")).await.expect("an answer");
    assert_eq!(get_path("/healthz").await.status(), 200);
    for path in ["/readyz", "/v1/traces", "/metrics"] {
        let answer = get_path(path).await;
        assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().expect("text")), (503, "1"), "{path}");
        assert!(answer.text().await.expect("a body").contains("its log is being read"));
    }
    front.open(Router::new().route("/readyz", get(|| async { "routes" })));
    assert_eq!(get_path("/readyz").await.text().await.expect("a body"), "routes");
}
