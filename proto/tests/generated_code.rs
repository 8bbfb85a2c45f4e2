//! The committed code in `src/generated` is what the `.proto` files give. After a change to them:
//! `SCOUTER_REGENERATE=1 cargo test --release -p scouter-tonic --features all --test generated_code`

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// The folder of OTLP's own `.proto` files, inside the `opentelemetry-proto` package this workspace is locked to.
fn otlp_proto_folder() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata = String::from_utf8(output.stdout).expect("cargo metadata prints UTF-8");
    let end = metadata
        .match_indices("Cargo.toml\"")
        .map(|(at, _)| at)
        .find(|at| {
            let folder = metadata[..*at].trim_end_matches(['/', '\\']);
            folder.rsplit(['/', '\\']).next().is_some_and(|name| name.starts_with("opentelemetry-proto-"))
        })
        .expect("opentelemetry-proto is a dependency");
    let start = metadata[..end].rfind('"').expect("a JSON string starts somewhere") + 1;
    Path::new(&metadata[start..end]).join("src/proto/opentelemetry-proto")
}

fn generate(into: &Path) {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let folders = [protos, otlp_proto_folder()];
    let descriptors = protox::compile(["grpc.v1.proto"], &folders).expect("the .proto files compile");
    // OTLP's service is described to reflection too; its code is not generated here.
    let served = ["grpc.v1.proto", "opentelemetry/proto/collector/trace/v1/trace_service.proto"];
    let described = protox::compile(served, &folders).expect("the .proto files compile");
    std::fs::write(into.join("scouter.descriptor.bin"), prost::Message::encode_to_vec(&described)).expect("writable");
    tonic_prost_build::configure()
        .out_dir(into)
        .extern_path(".opentelemetry.proto", "::opentelemetry_proto::tonic")
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .build_transport(false)
        .compile_fds(descriptors)
        .expect("code is generated");
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .expect("folder is readable")
        .map(|entry| entry.expect("entry is readable").path())
        .map(|path| {
            let name = path.file_name().expect("files have names").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("file is readable"))
        })
        .collect()
}

#[test]
fn committed_code_is_what_the_proto_files_give() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    if std::env::var_os("SCOUTER_REGENERATE").is_some() {
        generate(&committed);
        return;
    }
    let fresh = tempfile::tempdir().expect("a temporary folder");
    generate(fresh.path());
    let (fresh, committed) = (files(fresh.path()), files(&committed));
    assert_eq!(fresh.keys().collect::<Vec<_>>(), committed.keys().collect::<Vec<_>>());
    for (name, bytes) in fresh {
        assert!(bytes == committed[&name], "{name} is stale: regenerate it as the head of this file says");
    }
}
