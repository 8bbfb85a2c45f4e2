use tower::service_fn;

use super::*;

fn limits() -> ConnectionLimits {
    ConnectionLimits {
        max_connections: 16,
        max_connections_per_address: None,
        max_streams: 16,
        window_bytes: 1024 * 1024,
        buffers_bytes: 1024 * 1024,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
    }
}

/// A listener whose service panics at `/panic`.
async fn serve(limits: ConnectionLimits) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let service = service_fn(async |request: Request<Incoming>| {
        assert_ne!(request.uri().path(), "/panic", "asked to");
        let size = if request.uri().path() == "/large" { 64 * 1024 * 1024 } else { 2 };
        Ok(Response::new(Full::new(Bytes::from(vec![b'x'; size]))))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, stop) = (listener.local_addr().expect("bound"), CancellationToken::new());
    let task = tokio::spawn(Hinges::new(limits, Arc::default()).serve(listener, None, service, stop.clone()));
    (address, stop, task)
}

fn clients() -> [reqwest::Client; 2] {
    [reqwest::Client::builder().http1_only(), reqwest::Client::builder().http2_prior_knowledge()]
        .map(|builder| builder.build().expect("a client"))
}

#[tokio::test]
async fn a_request_that_panics_is_answered_and_harms_no_other() {
    let (address, stop, task) = serve(limits()).await;
    for client in clients() {
        for _ in 0..3 {
            let response = client.get(format!("http://{address}/panic")).send().await.expect("an answer");
            assert_eq!(response.status(), 500);
            let body = response.text().await.expect("a body");
            assert!(body.contains("INTERNAL") && !body.contains("asked to"), "{body}");
            assert_eq!(client.get(format!("http://{address}/")).send().await.expect("an answer").status(), 200);
        }
        let grpc = client.post(format!("http://{address}/panic")).header("content-type", "application/grpc").send().await;
        assert_eq!(grpc.expect("an answer").headers()["grpc-status"], "13");
    }
    drop(clients());
    stop.cancel();
    task.await.expect("the listener itself did not panic");
}

#[tokio::test]
async fn a_request_keeps_the_id_it_came_with_or_gets_one() {
    let (address, ..) = serve(limits()).await;
    for client in clients() {
        let get = || client.get(format!("http://{address}/"));
        assert_eq!(get().header(REQUEST_ID, "abc-1").send().await.expect("an answer").headers()[REQUEST_ID], "abc-1");
        for bad in ["", "a b", &"x".repeat(200)] {
            let answer = get().header(REQUEST_ID, bad).send().await.expect("an answer");
            assert_eq!(answer.headers()[REQUEST_ID].len(), 16, "{bad:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_cut() {
    use tokio::io::AsyncWriteExt;
    let (address, stop, task) = serve(ConnectionLimits { write_timeout: Duration::from_millis(200), ..limits() }).await;
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), task).await.expect("the connection ended").expect("no panic");
}
