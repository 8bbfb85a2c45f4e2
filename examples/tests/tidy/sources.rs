//! Rules about source files.

use crate::tree::{TextFile, assert_none, text_files};

const LONGEST_FILE_LINES: usize = 600;

#[test]
fn modules_lie_beside_their_folder() {
    let found: Vec<String> = text_files().into_iter().map(|file| file.path).filter(|path| path.ends_with("/mod.rs")).collect();
    assert_none("name.rs beside name/, no mod.rs", &found);
}

#[test]
fn files_have_one_responsibility() {
    let found: Vec<String> = text_files()
        .iter()
        .filter(|file| {
            !file.is_generated()
                && [".rs", ".py", ".pyi", ".proto", ".sh", ".html", ".js", ".ts", ".tsx", ".css"].iter().any(|end| file.path.ends_with(end))
        })
        .filter(|file| file.text.lines().count() > LONGEST_FILE_LINES)
        .map(|file| format!("{}: {} lines", file.path, file.text.lines().count()))
        .collect();
    assert_none(&format!("a file over {LONGEST_FILE_LINES} lines has a second responsibility"), &found);
}

#[test]
fn modules_say_what_they_are_for() {
    let found: Vec<String> = text_files()
        .iter()
        .filter(|file| file.is_rust() && !file.is_generated() && !file.is_test())
        .filter(|file| !file.text.lines().any(|line| line.starts_with("//!")))
        .map(|file| file.path.clone())
        .collect();
    assert_none("a module begins with //! and its purpose", &found);
}

#[test]
fn nothing_panics_by_habit_and_nothing_is_left_undone() {
    let forbidden = [".unwrap()", "todo!(", "unimplemented!(", "dbg!("];
    assert_none("use expect(\"invariant\") or an error; finish what you begin", &find_in_code(&forbidden, |_| true));
}

#[test]
fn channels_are_bounded() {
    let forbidden =
        ["unbounded_channel", "mpsc::unbounded", "channel::unbounded", "flume::unbounded", "std::sync::mpsc::channel", "mpsc::channel()"];
    assert_none("every channel has a named limit", &find_in_code(&forbidden, |_| true));
}

#[test]
fn heavy_dependencies_have_one_place() {
    // What a line of code may not name, and the places where it may.
    let places: [(&[&str], &[&str]); 8] = [
        (&["datafusion::", "datafusion_"], &["server-ingest/query/"]),
        (&["deltalake_core::", "deltalake::"], &["server-ingest/storage/src/lake", "server-ingest/storage/src/store"]),
        (&["parquet::"], &["server-ingest/storage/src/", "server-ingest/query/", "server-ingest/answers/"]),
        (&["arrow::", "arrow_array::"], &["server-ingest/storage/", "server-ingest/query/", "server-ingest/answers/"]),
        (&["axum::"], &["server-ingest/src/http", "server-ingest/tests/", "examples/", "exporter/examples/"]),
        (&["pyo3::"], &["python-bindings/"]),
        (&["tokio_postgres::"], &["server-ingest/src/postgres"]),
        (&["amqprs::"], &["exporter/src/transport/rabbitmq", "server-ingest/src/consumer/rabbitmq"]),
    ];
    let mut found = Vec::new();
    for (names, allowed) in places {
        found.extend(find_in_code(names, |file| !allowed.iter().any(|place| file.path.starts_with(place))));
    }
    assert_none("one place for each heavy dependency", &found);
}

#[test]
fn doors_do_not_touch_the_log_or_the_tables() {
    let doors = ["server-ingest/src/consumer", "server-ingest/src/grpc", "server-ingest/src/http"];
    let below =
        ["scouter_storage::lake", "scouter_storage::columns", "Store::open", "Log::open", "append_durable", "store.append(", "store.cut("];
    assert_none("doors call ingest and query only", &find_in_code(&below, |file| doors.iter().any(|door| file.path.starts_with(door))));
}

#[test]
fn the_ground_of_the_server_imports_nothing_above_it() {
    let ground = ["auth", "config", "error", "postgres_target", "tls"].map(|module| format!("server-ingest/src/{module}"));
    let above = ["app::", "cli::", "listener::", "ingest::", "postgres::", "profiles::"];
    let of_ground = |path: &str| ground.iter().any(|start| path.strip_prefix(start).is_some_and(|rest| rest.starts_with(['.', '/'])));
    assert_none("imports point down the layers", &find_in_code(&above, |file| of_ground(&file.path)));
}

#[test]
fn client_and_server_do_not_know_each_other() {
    let mut found = find_in_code(&["scouter_exporter"], |file| file.path.starts_with("server-ingest/"));
    found.extend(find_in_code(&["scouter_storage", "scouter_query", "scouter_answers", "scouter_ingest"], |file| {
        !file.path.starts_with("server-ingest/")
    }));
    assert_none("exporter and server meet in tests only", &found);
}

/// `path:line: code` of each line outside tests and comments that contains one of `words`.
fn find_in_code(words: &[&str], include: impl Fn(&TextFile) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in text_files().iter().filter(|file| file.is_rust() && !file.is_test() && !file.is_generated() && include(file)) {
        for (index, line) in file.text.lines().enumerate() {
            // Inline tests stand at a file's end.
            if line.trim_start().starts_with("#[cfg(test)]")
                && file.text.lines().nth(index + 1).is_some_and(|next| next.trim_end().ends_with('{'))
            {
                break;
            }
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| contains_name(code, word)) {
                found.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    found
}

/// Whether `code` contains `word`, and not as the end of a longer name.
fn contains_name(code: &str, word: &str) -> bool {
    let starts_a_name = word.starts_with(|letter: char| letter.is_alphabetic());
    code.match_indices(word)
        .any(|(at, _)| !starts_a_name || !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_'))
}
