//! Rule C-38: connections that die without a word.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use scouter_exporter::{GrpcConfig, Pipeline, QueueConfig};

use super::{
    server::{Server, wait_until},
    spans::{batch, block_on},
};

/// Carries bytes to a server until it is told to swallow them, as a machine does that lost its power.
struct Network {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Connections below this number carry nothing any more.
    dead_below: Arc<AtomicUsize>,
}

impl Network {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let network = Self { address: listener.local_addr().unwrap(), connections: Arc::default(), dead_below: Arc::default() };
        let (connections, dead_below) = (Arc::clone(&network.connections), Arc::clone(&network.dead_below));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(server) else { continue };
                for (from, to) in [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))] {
                    let (Ok(from), Ok(to), dead_below) = (from, to, Arc::clone(&dead_below)) else { continue };
                    std::thread::spawn(move || carry(from, to, || number < dead_below.load(Ordering::SeqCst)));
                }
            }
        });
        network
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, is_dead: impl Fn() -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !is_dead() && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    if !is_dead() {
        let _already_closed = to.shutdown(Shutdown::Both);
    }
}

#[test]
fn c_38_a_connection_that_died_without_a_word_is_replaced_within_a_request() {
    let server = Server::start();
    let network = Network::to(server.address);
    let config = GrpcConfig { server_uri: format!("http://{}", network.address), timeout: Duration::from_secs(30), ..server.config() };
    let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
    block_on(pipeline.send(batch(0..1))).unwrap();
    wait_until("there is a connection", || network.connections.load(Ordering::SeqCst) == 1);
    network.dead_below.store(1, Ordering::SeqCst);
    block_on(pipeline.send(batch(1..2))).unwrap();
    assert_eq!((pipeline.stats().spans.exported, network.connections.load(Ordering::SeqCst)), (2, 2));
}
