//! Peers that misbehave below gRPC: raw sockets, with as much HTTP/2 as a fault needs.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long a door waits for a peer before its thread ends.
const IDLE: Duration = Duration::from_secs(20);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status 200` and gRPC's content type, as HPACK writes them without a table.
fn grpc_headers() -> Vec<u8> {
    let mut block = vec![0x88];
    literal(&mut block, "content-type", "application/grpc");
    block
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(text.len() as u8);
        block.extend_from_slice(text.as_bytes());
    }
}

/// A listener whose connections are each given to a function on a thread of their own.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    is_closed: Arc<AtomicBool>,
}

impl Door {
    pub(crate) fn open(serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_closed = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&is_closed);
        std::thread::spawn(move || {
            while let Ok((connection, _)) = listener.accept() {
                if closed.load(Ordering::Relaxed) {
                    break;
                }
                connection.set_read_timeout(Some(IDLE)).unwrap();
                let serve = serve.clone();
                // The peer goes away when it has seen enough, which is an error here.
                std::thread::spawn(move || drop(serve(connection)));
            }
        });
        Self { address, is_closed }
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

/// A port whose connections are never taken from a full backlog, so that a further SYN is not answered.
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _runtime: tokio::runtime::Runtime,
    _fill: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            socket.listen(1).unwrap()
        });
        let address = listener.local_addr().unwrap();
        let mut fill = Vec::new();
        while let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            fill.push(connection);
            assert!(fill.len() < 64, "the backlog is never full");
        }
        Self { address, _listener: listener, _runtime: runtime, _fill: fill }
    }
}

/// Says nothing until the peer goes away.
pub(crate) fn silent(mut connection: TcpStream) -> io::Result<()> {
    io::copy(&mut connection, &mut io::sink()).map(drop)
}

/// Ends the connection at once.
pub(crate) fn closing(_connection: TcpStream) -> io::Result<()> {
    Ok(())
}

/// Closes while the peer's bytes are unread, which resets the connection.
pub(crate) fn resetting(connection: TcpStream) -> io::Result<()> {
    connection.peek(&mut [0; 1]).map(drop)
}

/// Answers with what no protocol begins with.
pub(crate) fn babbling(mut connection: TcpStream) -> io::Result<()> {
    connection.write_all(&[0xff; 4096])?;
    silent(connection)
}

/// Speaks HTTP/1.1.
pub(crate) fn old_fashioned(mut connection: TcpStream) -> io::Result<()> {
    connection.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")?;
    silent(connection)
}

/// HTTP/2 up to a complete request; what follows is up to `answer`.
pub(crate) fn http2(
    answer: impl Fn(&mut TcpStream, u32) -> io::Result<()> + Clone + Send + 'static,
) -> impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static {
    move |mut connection| {
        connection.read_exact(&mut [0; 24])?;
        write_frame(&mut connection, SETTINGS, 0, 0, &[])?;
        loop {
            let mut head = [0; 9];
            connection.read_exact(&mut head)?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length];
            connection.read_exact(&mut payload)?;
            match kind {
                SETTINGS if flags & ACK == 0 => write_frame(&mut connection, SETTINGS, ACK, 0, &[])?,
                PING if flags & ACK == 0 => write_frame(&mut connection, PING, ACK, 0, &payload)?,
                DATA | HEADERS if flags & END_STREAM != 0 => answer(&mut connection, stream)?,
                _ => {}
            }
        }
    }
}

fn write_frame(connection: &mut TcpStream, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    connection.write_all(&frame)
}

/// No answer.
pub(crate) fn never(_connection: &mut TcpStream, _stream: u32) -> io::Result<()> {
    Ok(())
}

/// GOAWAY in the middle of the request, and the end of the connection.
pub(crate) fn go_away(connection: &mut TcpStream, _stream: u32) -> io::Result<()> {
    write_frame(connection, GOAWAY, 0, 0, &[0; 8])?;
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// RST_STREAM with INTERNAL_ERROR.
pub(crate) fn reset_stream(connection: &mut TcpStream, stream: u32) -> io::Result<()> {
    write_frame(connection, RST_STREAM, 0, stream, &2_u32.to_be_bytes())
}

/// Headers, and nothing after them.
pub(crate) fn headers_only(connection: &mut TcpStream, stream: u32) -> io::Result<()> {
    write_frame(connection, HEADERS, END_HEADERS, stream, &grpc_headers())
}

/// An answer of which a byte arrives now and then.
pub(crate) fn dripping(connection: &mut TcpStream, stream: u32) -> io::Result<()> {
    headers_only(connection, stream)?;
    for byte in [0, 0, 0, 0, 200].into_iter().chain([0; 200]) {
        write_frame(connection, DATA, 0, stream, &[byte])?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A gRPC answer with status OK whose message is no message.
pub(crate) fn garbage(connection: &mut TcpStream, stream: u32) -> io::Result<()> {
    headers_only(connection, stream)?;
    write_frame(connection, DATA, 0, stream, &[0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff])?;
    let mut trailers = Vec::new();
    literal(&mut trailers, "grpc-status", "0");
    write_frame(connection, HEADERS, END_HEADERS | END_STREAM, stream, &trailers)
}

/// An HTTP status, as a gateway between gives it.
pub(crate) fn http_status(status: &'static str) -> impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static {
    http2(move |connection, stream| {
        let mut block = vec![0x08, 0x03];
        block.extend_from_slice(status.as_bytes());
        write_frame(connection, HEADERS, END_HEADERS | END_STREAM, stream, &block)
    })
}
