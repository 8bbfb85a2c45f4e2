//! The web page: a few files inside the program, served to anyone. What they show needs a login like everything else.
//!
//! The files are built from `server-ingest/web`. Browsers ask again whether they changed, by their tags; what the page itself loads is named with
//! its tag in the address and need not be asked for again. Every address of a view answers with the same document, which reads the address.
//!
//! **Invariant:** nothing of the page comes from another origin, and no script or style stands in the document: the policy sent with it forbids both.

use std::{io::Write as _, net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{self, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use super::{HttpDoors, not_found};
use crate::listener::Peer;

/// Addresses of views, as `app.tsx` knows them.
const VIEWS: [&str; 8] = ["/", "/search", "/trace/{id}", "/conversations", "/conversations/{id}", "/services", "/records", "/sql"];

const DOCUMENT: &str = include_str!("../../web/dist/index.html");
const ASSETS: [(&str, &str, &[u8]); 3] = [
    ("page.js", "text/javascript; charset=utf-8", include_bytes!("../../web/dist/assets/page.js")),
    ("page.css", "text/css; charset=utf-8", include_bytes!("../../web/dist/assets/page.css")),
    ("icon.svg", "image/svg+xml", include_bytes!("../../web/dist/assets/icon.svg")),
];

/// What the document may load and do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";
const ALWAYS_ASK: &str = "no-cache";
const NEVER_ASK: &str = "public, max-age=31536000, immutable";

/// A file, ready to be sent.
struct File {
    name: &'static str,
    content_type: HeaderValue,
    tag: String,
    plain: Bytes,
    packed: Bytes,
}

impl File {
    fn new(name: &'static str, content_type: &'static str, plain: Bytes) -> Self {
        let tag = format!("{:032x}", twox_hash::XxHash3_128::oneshot(&plain));
        Self { name, content_type: HeaderValue::from_static(content_type), tag, packed: gzip(&plain), plain }
    }

    /// The file, or word that the caller's is still good. `cache` says how long it may be kept without asking.
    fn answer(&self, headers: &HeaderMap, cache: &'static str) -> Response {
        let is_packed = accepts_gzip(headers);
        let tag = format!("\"{}{}\"", self.tag, if is_packed { "-gz" } else { "" });
        let is_known = headers.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok()).is_some_and(|known| names(known, &tag));
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let body = if is_packed { &self.packed } else { &self.plain };
            ([(CONTENT_TYPE, self.content_type.clone())], body.clone()).into_response()
        };
        let all = response.headers_mut();
        if is_packed && !is_known {
            all.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Ok(tag) = HeaderValue::try_from(tag) {
            all.insert(ETAG, tag);
        }
        let fixed: [(HeaderName, &str); 3] =
            [(CACHE_CONTROL, cache), (VARY, "accept-encoding"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
        for (name, value) in fixed {
            all.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything").into()
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    accepted.map(|coding| coding.split(';').map(str::trim)).any(|mut parts| {
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip")) && !parts.any(|weight| ["q=0", "q=0.0"].contains(&weight))
    })
}

/// Whether the list of `If-None-Match` names `tag`; weak tags compare like strong ones there.
fn names(list: &str, tag: &str) -> bool {
    list.trim() == "*" || list.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
}

/// The document and what it loads.
struct Page {
    document: File,
    assets: Vec<File>,
}

impl Page {
    fn new() -> Self {
        let assets: Vec<File> =
            ASSETS.into_iter().map(|(name, content_type, bytes)| File::new(name, content_type, Bytes::from_static(bytes))).collect();
        // The tag in the address makes another address of a changed file.
        let document = assets.iter().fold(DOCUMENT.to_owned(), |document, asset| {
            document.replace(&format!("/assets/{}\"", asset.name), &format!("/assets/{}?v={}\"", asset.name, asset.tag))
        });
        Self { document: File::new("index.html", "text/html; charset=utf-8", document.into()), assets }
    }

    fn document(&self, headers: &HeaderMap) -> Response {
        let mut response = self.document.answer(headers, ALWAYS_ASK);
        // The addresses of views hold ids and filters, which are nobody else's business.
        for (name, value) in [(header::CONTENT_SECURITY_POLICY, POLICY), (header::REFERRER_POLICY, "no-referrer")] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// The document where there is no view, which says so.
    fn nowhere(&self, headers: &HeaderMap) -> Response {
        let mut headers = headers.clone();
        headers.remove(IF_NONE_MATCH);
        let mut response = self.document(&headers);
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    }

    fn asset(&self, name: &str, query: Option<&str>, headers: &HeaderMap) -> Option<Response> {
        let asset = self.assets.iter().find(|asset| asset.name == name)?;
        let is_named_by_tag = query.and_then(|query| query.strip_prefix("v=")) == Some(&*asset.tag);
        Some(asset.answer(headers, if is_named_by_tag { NEVER_ASK } else { ALWAYS_ASK }))
    }
}

/// The page's document at the address of each view, its files, and what the server says of itself to anyone.
pub(super) fn routes() -> Router<HttpDoors> {
    let page = Arc::new(Page::new());
    let router = VIEWS.iter().fold(Router::new(), |router, view| {
        let page = Arc::clone(&page);
        router.route(view, get(async move |headers: HeaderMap| page.document(&headers)))
    });
    let page_elsewhere = Arc::clone(&page);
    let elsewhere = async move |request: Request| match is_visit(&request) {
        true => page_elsewhere.nowhere(request.headers()),
        false => not_found(request).await,
    };
    let asset = async move |Path(name): Path<String>, request: Request| match page.asset(&name, request.uri().query(), request.headers()) {
        Some(response) => response,
        None => not_found(request).await,
    };
    router.route("/assets/{name}", get(asset)).route("/api/v1/server", get(about)).fallback(elsewhere)
}

/// Whether somebody looks for a page, and not a program for an answer.
fn is_visit(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let first = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    request.method() == Method::GET && accept.contains("text/html") && !["api", "assets", "jaeger", "scouter", "v1"].contains(&first)
}

/// `GET /api/v1/server`: the version, where gRPC listens, and whether the user is guest, which only somebody on this machine is told.
async fn about(State(doors): State<HttpDoors>, request: Request) -> Response {
    let from = Peer::address(request.extensions());
    let is_development = doors.auth.is_guest_welcome() && from.is_loopback() && is_loopback_name(host(request.headers()));
    let answer = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"), "development": is_development, "grpc": doors.grpc_address.to_string(),
    });
    ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

/// What the server was called by; empty where that was not said.
pub(super) fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// Whether a `Host` header names this machine to itself: one that comes through a proxy does not.
fn is_loopback_name(host: &str) -> bool {
    scouter_tonic::client::is_loopback(without_port(host))
}

/// Whether a `Host` header cannot be that of a page from elsewhere, whose site has a name of its own: an address, a name of this machine, or
/// one below `internal`, which nobody can buy. A browser always sends one by HTTP/1.1; by HTTP/2 the certificate says the same.
pub(super) fn is_no_sites_name(host: &str) -> bool {
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_below = |domain: &str| name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    name.is_empty() || address.parse::<IpAddr>().is_ok() || is_below("localhost") || is_below("internal")
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|digit| digit.is_ascii_digit())).map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests;
