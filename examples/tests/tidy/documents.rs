//! Rules about documents, and about what no file may say.

use crate::tree::{assert_none, root, text_files};

#[test]
fn links_in_documents_lead_somewhere() {
    let mut found = Vec::new();
    for file in text_files().iter().filter(|file| file.path.ends_with(".md")) {
        let folder = root().join(&file.path).parent().expect("a file lies in a folder").to_owned();
        for link in file.text.split("](").skip(1).filter_map(|rest| rest.split([')', '\n']).next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                found.push(format!("{}: {link}", file.path));
            }
        }
    }
    assert_none("a relative link names a file of the repository", &found);
}

#[test]
fn files_named_in_the_map_exist() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("there is a map");
    let is_path = |word: &str| word.contains('/') && [".rs", ".py", ".proto", ".md", ".sh"].iter().any(|end| word.ends_with(end));
    let found: Vec<String> =
        map.split('`').skip(1).step_by(2).filter(|word| is_path(word) && !root().join(word).exists()).map(str::to_owned).collect();
    assert_none("ARCHITECTURE.md names files that are there", &found);
}

#[test]
fn documents_a_reader_expects_are_there() {
    let expected =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "docs/glossary.md", "docs/getting-started.md"];
    let found: Vec<String> = expected.iter().filter(|path| !root().join(path).is_file()).map(|path| (*path).to_owned()).collect();
    assert_none("missing documents", &found);
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    // Put together here, so that this file does not contain them.
    let homes = ["home", "Users"].map(|folder| format!("/{folder}/"));
    let folders = ["work", "root"].map(|folder| format!("/{folder}/"));
    let mut found = Vec::new();
    for file in text_files() {
        for (index, line) in file.text.lines().enumerate() {
            let at_start = |path: &String| {
                line.match_indices(path.as_str())
                    .any(|(at, _)| !line[..at].ends_with(|letter: char| letter.is_alphanumeric() || "_-.}~/*".contains(letter)))
            };
            if homes.iter().chain(&folders).any(at_start) {
                found.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    assert_none("paths of one machine do not belong in a repository", &found);
}
