//! Rules about crates, by what cargo says of them.

use std::{
    collections::{HashMap, HashSet},
    process::Command,
};

use serde_json::Value;

use crate::tree::{assert_none, root};

/// The oldest Rust that builds the crates a client uses. Their manifests state it too.
const CLIENT_RUST_VERSION: (u64, u64) = (1, 88);
const CLIENT_CRATES: [&str; 2] = ["scouter-tonic", "scouter-exporter"];

/// What a client's build must be free of.
const SERVER_ONLY: [&str; 7] = ["arrow", "parquet", "datafusion", "deltalake-core", "axum", "pyo3", "tokio-postgres"];

#[test]
fn crates_for_clients_build_with_the_rust_they_state() {
    let metadata = metadata();
    let versions: HashMap<String, (u64, u64)> = list(&metadata, "packages")
        .iter()
        .filter_map(|package| Some((format!("{} v{}", text(package, "name"), text(package, "version")), rust_version(package)?)))
        .collect();
    let mut found = Vec::new();
    for package in members(&metadata).into_iter().filter(|package| CLIENT_CRATES.contains(&text(package, "name"))) {
        let name = text(package, "name");
        if rust_version(package) != Some(CLIENT_RUST_VERSION) {
            found.push(format!("{name} states {:?}", rust_version(package)));
        }
        for dependency in dependencies_of(name) {
            if let Some(version) = versions.get(&dependency).filter(|version| **version > CLIENT_RUST_VERSION) {
                found.push(format!("{name} needs {dependency}, which needs Rust {version:?}"));
            }
        }
    }
    assert_none(&format!("clients build with Rust {CLIENT_RUST_VERSION:?}"), &found);
}

#[test]
fn clients_compile_nothing_of_the_server() {
    let mut found = Vec::new();
    for name in CLIENT_CRATES {
        for dependency in dependencies_of(name) {
            if SERVER_ONLY.contains(&dependency.split(' ').next().expect("a line has a name")) {
                found.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    assert_none("a user of the exporter compiles no server", &found);
}

/// Otherwise `make test` compiles DataFusion twice.
#[test]
fn programs_and_tests_are_built_with_the_same_features() {
    let features = |edges: &str| tree(&["--workspace", "--edges", edges, "--format", "{p} [{f}]"]);
    let with_tests = features("normal,build,dev");
    let mut found: Vec<String> = features("normal,build").into_iter().filter(|line| !with_tests.contains(line)).collect();
    found.sort();
    assert_none("tests must not add features to crates that programs use; state them in examples/Cargo.toml", &found);
}

#[test]
fn crates_say_what_they_are() {
    let metadata = metadata();
    let mut found = Vec::new();
    for package in members(&metadata) {
        let name = text(package, "name");
        let description = package["description"].as_str().unwrap_or_default();
        if description.is_empty() || description == name {
            found.push(format!("{name} has no description"));
        }
        if package["license"].as_str() != Some("MIT") {
            found.push(format!("{name} has another licence than the repository"));
        }
        let manifest = std::fs::read_to_string(text(package, "manifest_path")).expect("a manifest is readable");
        if !manifest.contains("[lints]\nworkspace = true") {
            found.push(format!("{name} does not take the workspace's lints"));
        }
    }
    assert_none("crates are described, licensed and linted alike", &found);
}

fn metadata() -> Value {
    let host = output(Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned())).arg("-vV"));
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let json = output(cargo().args(["metadata", "--format-version=1", "--locked", "--filter-platform", host]));
    serde_json::from_str(&json).expect("cargo metadata prints JSON")
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("the toolchain is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the toolchain prints text")
}

fn members(metadata: &Value) -> Vec<&Value> {
    let ids: HashSet<&str> = list(metadata, "workspace_members").iter().filter_map(Value::as_str).collect();
    list(metadata, "packages").iter().filter(|package| ids.contains(text(package, "id"))).collect()
}

/// `name v1.2.3` of everything that is compiled when `name` alone is built with what a client needs of it.
fn dependencies_of(name: &str) -> HashSet<String> {
    let features: &[&str] = if name == "scouter-tonic" { &["--features", "client"] } else { &[] };
    let arguments = [&["--package", name, "--edges", "normal,build", "--format", "{p}"], features].concat();
    // A line may go on: the path of a member, a mark for a procedural macro.
    tree(&arguments).iter().map(|line| line.split(' ').take(2).collect::<Vec<&str>>().join(" ")).collect()
}

/// The lines of `cargo tree`, each once.
fn tree(arguments: &[&str]) -> HashSet<String> {
    let tree = output(cargo().args(["tree", "--locked", "--prefix", "none"]).args(arguments));
    tree.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    // The question is what a user's cargo does.
    command.env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION").current_dir(root());
    command
}

fn rust_version(package: &Value) -> Option<(u64, u64)> {
    let mut parts = package["rust_version"].as_str()?.split('.').map(|part| part.parse().expect("a version has numbers"));
    Some((parts.next()?, parts.next().unwrap_or(0)))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("cargo metadata has a list {key}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("cargo metadata has a text {key}"))
}
