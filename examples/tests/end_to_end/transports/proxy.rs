//! Something between a transport and its receiver that can fall silent: connections stay, new ones are accepted, and nothing goes through.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};

const CHUNK: usize = 64 * 1024;
/// It goes on to read from the client while it is silent, to see it leave: as much as this many chunks.
const CHUNKS: usize = 256;

pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    is_silent: watch::Sender<bool>,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One more as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Proxy {
    pub(super) async fn before(receiver: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (is_silent, silence) = watch::channel(false);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::AcqRel);
                tokio::spawn(carry(client, receiver, silence.clone(), Counted(Arc::clone(&count))));
            }
        });
        Self { address, is_silent, connections, accepting }
    }

    pub(super) fn fall_silent(&self) {
        self.is_silent.send_replace(true);
    }

    pub(super) fn speak_again(&self) {
        self.is_silent.send_replace(false);
    }

    /// Connections that the client has not closed.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

async fn carry(client: TcpStream, receiver: SocketAddr, silence: watch::Receiver<bool>, counted: Counted) {
    let (mut from_client, mut to_client) = client.into_split();
    let (forward, mut chunks) = mpsc::channel::<Vec<u8>>(CHUNKS);
    let reading = tokio::spawn(async move {
        let _counted = counted;
        while let Some(chunk) = chunk_of(&mut from_client).await {
            if forward.send(chunk).await.is_err() {
                return;
            }
        }
    });
    let mut speech = silence.clone();
    let until_speech = speech.wait_for(|is_silent| !is_silent).await.map(drop);
    let Ok(server) = (match until_speech {
        Ok(()) => TcpStream::connect(receiver).await,
        Err(_) => return,
    }) else {
        // Nobody is there: the client sees its connection end.
        reading.abort();
        return;
    };
    let (mut from_server, mut to_server) = server.into_split();
    let mut heard = silence;
    let back = tokio::spawn(async move {
        while let Some(chunk) = chunk_of(&mut from_server).await {
            if heard.wait_for(|is_silent| !is_silent).await.is_err() || to_client.write_all(&chunk).await.is_err() {
                return;
            }
        }
    });
    while let Some(chunk) = chunks.recv().await {
        if speech.wait_for(|is_silent| !is_silent).await.is_err() || to_server.write_all(&chunk).await.is_err() {
            break;
        }
    }
    drop(to_server);
    let _ended = back.await;
    reading.abort();
}

/// `None` at the end.
async fn chunk_of(stream: &mut tokio::net::tcp::OwnedReadHalf) -> Option<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    let bytes = stream.read(&mut chunk).await.ok().filter(|bytes| *bytes > 0)?;
    chunk.truncate(bytes);
    Some(chunk)
}
