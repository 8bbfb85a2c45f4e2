//! The ways into a server, below the generated clients: a body is bytes already, and stays bytes.
//!
//! A failure is sorted by what the sender should do next ([`SendError`]); the table of retryable codes is OTLP's.

mod grpc;
mod http;
mod login;

use std::{io::Write as _, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use clap::ValueEnum;

pub use login::Login;

use crate::spans::Envelope;

/// Where spans go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Door {
    /// `scouter.grpc.v1.MessageService/InsertMessage`.
    ScouterGrpc,
    /// OTLP's `TraceService/Export` over gRPC.
    OtlpGrpc,
    /// OTLP over HTTP: `POST /v1/traces` with protobuf.
    OtlpHttp,
}

impl Door {
    /// The name on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScouterGrpc => "scouter-grpc",
            Self::OtlpGrpc => "otlp-grpc",
            Self::OtlpHttp => "otlp-http",
        }
    }

    /// The address a server listens on when it is told nothing else.
    pub fn default_endpoint(self) -> &'static str {
        match self {
            Self::ScouterGrpc => "http://127.0.0.1:50051",
            Self::OtlpGrpc => "http://127.0.0.1:4317",
            Self::OtlpHttp => "http://127.0.0.1:4318",
        }
    }

    /// The request message this door takes.
    pub fn envelope(self) -> Envelope {
        match self {
            Self::ScouterGrpc => Envelope::Scouter,
            Self::OtlpGrpc | Self::OtlpHttp => Envelope::Otlp,
        }
    }
}

/// How a body is compressed on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Compression {
    /// Not at all.
    #[default]
    Plain,
    /// gzip, its default level.
    Gzip,
    /// zstd, its default level.
    Zstd,
}

impl Compression {
    /// The name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Why a request was not acknowledged, by what to do next.
#[derive(Debug)]
pub enum SendError {
    /// Send the same bytes again, later; not before this time if the server named one.
    Retry(String, Option<Duration>),
    /// Log in again, then send the same bytes.
    Unauthenticated(String),
    /// Never send these bytes again.
    Refused(String),
}

/// One connection to a door; reconnects by itself.
#[derive(Debug, Clone)]
pub enum Connection {
    /// gRPC, Scouter's or OTLP's.
    Grpc(grpc::GrpcConnection),
    /// OTLP over HTTP.
    Http(http::HttpConnection),
}

impl Connection {
    /// Connects with the first request, not now.
    ///
    /// # Errors
    /// When `endpoint` is not an address.
    pub fn new(door: Door, endpoint: &str, compression: Compression) -> anyhow::Result<Self> {
        Ok(match door {
            Door::ScouterGrpc | Door::OtlpGrpc => Self::Grpc(grpc::GrpcConnection::new(door, endpoint, compression)?),
            Door::OtlpHttp => Self::Http(http::HttpConnection::new(endpoint, compression)?),
        })
    }

    /// Compresses one body, once however often it is sent.
    ///
    /// # Errors
    /// It cannot be compressed.
    pub fn pack(&self, body: Bytes) -> anyhow::Result<Packed> {
        match self {
            Self::Grpc(connection) => connection.pack(&body),
            Self::Http(connection) => compress(body, connection.compression).map(Packed),
        }
    }

    /// Sends one body and waits for its acknowledgement; answers how many of its spans were rejected.
    ///
    /// # Errors
    /// See [`SendError`]. After an error the server may or may not have the body.
    pub async fn send(&self, body: &Packed, token: &str) -> Result<u64, SendError> {
        match self {
            Self::Grpc(connection) => connection.send(body, token).await,
            Self::Http(connection) => connection.send(body, token).await,
        }
    }
}

/// A body as it is sent by a [`Connection`] of the kind that packed it.
#[derive(Debug, Clone)]
pub struct Packed(Bytes);

fn compress(body: Bytes, compression: Compression) -> anyhow::Result<Bytes> {
    let compressed = match compression {
        Compression::Plain => return Ok(body),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&body).and_then(|()| encoder.finish())
        }
        Compression::Zstd => zstd::bulk::compress(&body, zstd::DEFAULT_COMPRESSION_LEVEL),
    };
    Ok(compressed.context("the body is not compressed")?.into())
}

/// An error's text with its causes, each told once.
fn with_causes(mut text: String, mut cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
