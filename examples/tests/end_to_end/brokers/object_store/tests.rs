//! What tests of others rely on.

use tokio::process::Command;

use super::{ObjectStore, PASSWORD};

/// Asks for an object of the store; answers the status, 0 if nothing came in a while, and the text. curl signs: no crate here does.
async fn ask(store: &ObjectStore, password: &str, key: &str, arguments: &[&str]) -> (u16, String) {
    let variables = store.environment();
    let variable = |name: &str| &*variables.iter().find(|(found, _)| found == name).expect("the environment has it").1;
    let (endpoint, user, region) = (variable("AWS_ENDPOINT_URL"), variable("AWS_ACCESS_KEY_ID"), variable("AWS_REGION"));
    let path = store.url(key);
    let path = path.strip_prefix("s3://").expect("that is the scheme");
    let mut command = Command::new("curl");
    command.args(["--silent", "--noproxy", "*", "--max-time", "30", "--write-out", "\n%{http_code}"]);
    command.args(["--aws-sigv4", &format!("aws:amz:{region}:s3"), "--user", &format!("{user}:{password}")]);
    command.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]).args(arguments).arg(format!("{endpoint}/{path}"));
    let output = command.output().await.expect("there is a curl; scripts/setup.sh installs it");
    let output = String::from_utf8(output.stdout).expect("text was put");
    let (text, status) = output.rsplit_once('\n').expect("curl writes the status");
    (status.parse().expect("a status is a number"), text.to_owned())
}

/// Puts an object that must not be there yet.
async fn put(store: &ObjectStore, password: &str, key: &str, text: &str) -> u16 {
    let arguments = ["--request", "PUT", "--header", "If-None-Match: *", "--header", "Content-Type: text/plain", "--data-raw", text];
    ask(store, password, key, &arguments).await.0
}

async fn get(store: &ObjectStore, password: &str, key: &str) -> (u16, String) {
    ask(store, password, key, &[]).await
}

#[tokio::test]
async fn an_object_store_keeps_what_was_put_first() {
    let mut store = ObjectStore::start().await;
    assert_eq!(put(&store, PASSWORD, "a/1", "first").await, 200);
    assert_eq!(put(&store, PASSWORD, "a/1", "second").await, 412);

    assert_eq!(put(&store, "another-password", "a/2", "foreign").await, 403);
    assert_eq!(get(&store, "another-password", "a/1").await.0, 403);
    let unsigned = reqwest::get(format!("{}/{}/a/1", store.endpoint(), store.bucket())).await.expect("it answers");
    assert_eq!(unsigned.status(), 403);

    store.kill().await;
    assert_eq!(get(&store, PASSWORD, "a/1").await.0, 0);
    store.start_again().await;
    assert_eq!(get(&store, PASSWORD, "a/1").await, (200, "first".to_owned()));
    assert_eq!(get(&store, PASSWORD, "a/2").await.0, 404);
    assert_eq!(put(&store, PASSWORD, "a/1", "third").await, 412);

    store.stand_still().await;
    assert_eq!(ask(&store, PASSWORD, "a/1", &["--max-time", "1"]).await.0, 0);
    store.go_on().await;
    assert_eq!(put(&store, PASSWORD, "a/2", "later").await, 200);
}
