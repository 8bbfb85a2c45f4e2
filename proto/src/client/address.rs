//! Addresses: which are on this machine, and how they may be shown.

use std::net::IpAddr;

/// What stands in place of what may be a secret.
const HIDDEN: &str = "***";

/// True for `localhost` and for addresses of the loopback network, in brackets or not.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an `@` stands behind what is read as host and port. A password with a `/`, `?` or `#` that is not escaped ends them in its middle:
/// `redis://user:pass@word#3@host` is read as the host `word`, which must be neither asked nor shown.
pub fn is_cut_by_its_password(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.find(['/', '?', '#']).is_some_and(|end| rest[end..].contains('@'))
}

/// An address as messages, logs and `Debug` may show it: scheme, host, port and path, without user, password, query and fragment.
///
/// It also gets what is no good address, above all passwords with characters that had to be escaped. Where it cannot be known which part is
/// the password, nothing but the scheme is shown.
pub fn shown_address(address: &str) -> String {
    let address = address.trim();
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) => (scheme, rest),
        _ => ("", address),
    };
    let shown = place(rest).unwrap_or(HIDDEN);
    if scheme.is_empty() { shown.to_owned() } else { format!("{scheme}://{shown}") }
}

/// Host, port and path of what follows the scheme. `None` when a part of them may belong to a password.
fn place(rest: &str) -> Option<&str> {
    let query = rest.find(['?', '#']).unwrap_or(rest.len());
    let user_info = rest.rfind('@');
    if user_info.is_some_and(|at| at > query) {
        // Either the password has a question mark, or the query has an @.
        return None;
    }
    // A password may hold @ and slashes, a host neither.
    let shown = &rest[user_info.map_or(0, |at| at + 1)..query];
    let authority = shown.split('/').next().unwrap_or_default();
    let port = match authority.strip_prefix('[').and_then(|address| address.split_once(']')) {
        Some((_, after)) => after.strip_prefix(':').unwrap_or(after),
        None => authority.split_once(':').map_or("", |(_, port)| port),
    };
    // `user:password` without a host has what no port has. The path of a unix socket follows its scheme at once.
    let is_socket = user_info.is_none() && authority.starts_with("unix:");
    (is_socket || port.bytes().all(|byte| byte.is_ascii_digit())).then_some(shown)
}
