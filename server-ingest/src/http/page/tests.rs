use super::*;

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::try_from(*value).expect("a value"))).collect()
}

#[test]
fn the_document_loads_what_is_there_by_its_tag() {
    let page = Page::new();
    let text = String::from_utf8(page.document.plain.to_vec()).expect("text");
    for asset in &page.assets {
        assert!(text.contains(&format!("\"/assets/{}?v={}\"", asset.name, asset.tag)), "{}: {text}", asset.name);
    }
    assert!(!text.contains("<style") && !text.contains("onload") && !text.contains("://"), "{text}");
    let query = format!("v={}", page.assets[0].tag);
    let cached = |query: Option<&str>| {
        let response = page.asset("page.js", query, &HeaderMap::new()).expect("it is there");
        response.headers()[CACHE_CONTROL].to_str().expect("text").to_owned()
    };
    assert_eq!(cached(Some(&query)), NEVER_ASK);
    assert_eq!(cached(Some("v=0000000000000000")), ALWAYS_ASK, "another version must not be kept under this one's name");
    assert_eq!(cached(None), ALWAYS_ASK);
    assert!(page.asset("../index.html", None, &HeaderMap::new()).is_none());
}

#[test]
fn a_browser_that_has_the_file_is_not_sent_it_again() {
    let page = Page::new();
    for encoding in ["identity", "gzip, br"] {
        let first = page.document(&headers(&[(ACCEPT_ENCODING, encoding)]));
        assert_eq!(first.status(), 200);
        assert_eq!(first.headers().contains_key(CONTENT_ENCODING), encoding != "identity");
        let tag = first.headers()[ETAG].to_str().expect("text").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = page.document(&headers(&[(ACCEPT_ENCODING, encoding), (IF_NONE_MATCH, &known)]));
            assert_eq!(again.status(), 304, "{known}");
            assert_eq!(again.headers()[ETAG], first.headers()[ETAG]);
        }
        let stale = page.document(&headers(&[(ACCEPT_ENCODING, encoding), (IF_NONE_MATCH, "\"0\"")]));
        assert_eq!(stale.status(), 200);
    }
}

#[test]
fn only_those_who_take_gzip_get_it() {
    for (accepted, expected) in [
        ("gzip", true),
        ("br, GZIP;q=0.5", true),
        ("gzip;q=0", false),
        ("gzip; q=0.0", false),
        ("br", false),
        ("", false),
        ("x-gzip", false),
    ] {
        assert_eq!(accepts_gzip(&headers(&[(ACCEPT_ENCODING, accepted)])), expected, "{accepted}");
    }
    assert!(!accepts_gzip(&HeaderMap::new()));
}

#[test]
fn a_sites_name_is_not_this_machines() {
    for host in [
        "",
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1:8000",
        "[::1]:8000",
        "10.1.2.3",
        "[fe80::1]:80",
        "host.docker.internal:8000",
        "scouter.localhost:8000",
        "localhost.",
    ] {
        assert!(is_no_sites_name(host), "{host}");
    }
    for host in [
        "elsewhere.example",
        "elsewhere.example:8000",
        "127.0.0.1.elsewhere.example",
        "localhost.elsewhere.example:8000",
        "internal.example",
        "evil-internal",
        "localhost.example",
    ] {
        assert!(!is_no_sites_name(host), "{host}");
    }
}

#[test]
fn a_proxy_s_name_is_not_loopback() {
    for host in ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000", "[::1]"] {
        assert!(is_loopback_name(host), "{host}");
    }
    for host in ["", "scouter.example.com", "scouter.example.com:443", "10.0.0.1:8000", "localhost.example.com", "[2001:db8::1]:80"] {
        assert!(!is_loopback_name(host), "{host}");
    }
}

#[test]
fn a_visitor_with_a_wrong_address_sees_the_page_and_a_program_an_error() {
    let is_visit = |method: &str, path: &str, accept: &str| {
        let request = Request::builder().method(method).uri(path).header(header::ACCEPT, accept);
        super::is_visit(&request.body(axum::body::Body::empty()).expect("a request"))
    };
    let browser = "text/html,application/xhtml+xml,*/*;q=0.8";
    assert!(is_visit("GET", "/nosuchpage", browser) && is_visit("GET", "/trace/x/y", browser));
    for path in ["/api/v1/nothing", "/v1/nothing", "/scouter/nothing", "/jaeger/api/nothing", "/assets/nothing.js"] {
        assert!(!is_visit("GET", path, browser), "{path}");
    }
    assert!(!is_visit("POST", "/nosuchpage", browser) && !is_visit("GET", "/nosuchpage", "*/*"));

    let page = Page::new();
    let tag = page.document(&HeaderMap::new()).headers()[header::ETAG].clone();
    let known = HeaderMap::from_iter([(IF_NONE_MATCH, tag)]);
    assert_eq!(page.document(&known).status(), StatusCode::NOT_MODIFIED);
    let nowhere = page.nowhere(&known);
    assert_eq!(
        (nowhere.status(), &nowhere.headers()[CONTENT_TYPE]),
        (StatusCode::NOT_FOUND, &"text/html; charset=utf-8".parse().expect("a value"))
    );
}
