use super::*;

const NOW: u64 = 1_790_000_000;

fn open(folder: &tempfile::TempDir) -> Sessions {
    Sessions::open(folder.path(), NOW).expect("a folder")
}

fn turned(exchange: Exchange) -> Session {
    match exchange {
        Exchange::Turned(row) => row,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_exchange_is_a_turn_and_a_spent_token_is_not_exchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let sessions = open(&folder);
    let row = sessions.begin("ada", 1, NOW);
    assert_eq!(turned(sessions.exchange(&row.id, 0, NOW)).turn, 1);
    assert_eq!(turned(sessions.exchange(&row.id, 0, NOW + 60)).turn, 1, "the answer may have been lost");
    assert_eq!(sessions.exchange(&row.id, 0, NOW + 61), Exchange::Spent);
    assert_eq!(turned(sessions.exchange(&row.id, 1, NOW + 62)).turn, 2);
    assert_eq!(sessions.exchange(&row.id, 0, NOW + 62), Exchange::Spent);
    assert_eq!(sessions.exchange(&row.id, 9, NOW + 62), Exchange::Spent);
}

#[test]
fn one_session_ends_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let sessions = open(&folder);
    let (mine, other) = (sessions.begin("ada", 1, NOW), sessions.begin("ada", 1, NOW));
    for turn in 0..10 {
        turned(sessions.exchange(&mine.id, turn, NOW));
    }
    sessions.end(&mine.id);
    assert_eq!(sessions.exchange(&mine.id, 10, NOW), Exchange::Unknown);
    assert_eq!(turned(sessions.exchange(&other.id, 0, NOW)).turn, 1);
}

#[test]
fn a_session_is_over_after_its_life_however_often_it_turned() {
    let folder = tempfile::tempdir().expect("a folder");
    let sessions = open(&folder);
    let row = sessions.begin("ada", 1, NOW);
    let end = NOW + SESSION_LIFE.as_secs();
    turned(sessions.exchange(&row.id, 0, end - 1));
    assert_eq!(sessions.exchange(&row.id, 1, end), Exchange::Over);
    assert_eq!(sessions.find(&row.id, end), None);
}

#[test]
fn rows_come_back_after_a_restart_and_ended_ones_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let sessions = open(&folder);
    let (kept, ended) = (sessions.begin("ada", 7, NOW), sessions.begin("ada", 7, NOW));
    sessions.exchange(&kept.id, 0, NOW);
    sessions.end(&ended.id);
    drop(sessions);
    // A torn last line is what a crash leaves.
    let mut file = File::options().append(true).open(folder.path().join(FILE)).expect("there");
    file.write_all(b"{\"id\":\"to").expect("writable");
    let sessions = open(&folder);
    assert_eq!(sessions.find(&kept.id, NOW).map(|row| (row.turn, row.stamp)), Some((1, 7)));
    assert_eq!(sessions.find(&ended.id, NOW), None);
}

#[test]
fn the_file_does_not_grow_with_the_exchanges() {
    let folder = tempfile::tempdir().expect("a folder");
    let sessions = open(&folder);
    let row = sessions.begin("ada", 1, NOW);
    for turn in 0..5000 {
        turned(sessions.exchange(&row.id, turn, NOW));
    }
    let bytes = fs::metadata(folder.path().join(FILE)).expect("there").len();
    assert!(bytes < 300_000, "{bytes} bytes for one session");
    drop(sessions);
    assert_eq!(open(&folder).find(&row.id, NOW).map(|row| row.turn), Some(5000));
}
