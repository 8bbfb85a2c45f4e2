use bytes::Bytes;

use super::{batch::summary, member};
use crate::{consumer::ConsumerError, kafka::Fetched};

fn message(partition: i32, offset: i64) -> Fetched {
    Fetched::new(("topic".to_owned(), partition), offset, Bytes::new())
}

#[test]
fn offsets_go_up_to_the_first_gap_of_each_partition() {
    let done = summary(vec![
        (message(0, 5), Ok(true)),
        (message(1, 7), Ok(false)),
        (message(0, 6), Ok(true)),
        (message(1, 8), Ok(true)),
        (message(2, 1), Err(ConsumerError("broken".to_owned()))),
        (message(0, 9), Ok(true)),
    ]);
    assert_eq!(done.offsets.into_iter().collect::<Vec<_>>(), [(("topic".to_owned(), 0), 10)]);
    assert_eq!(done.left.iter().map(|left| left.offset).collect::<Vec<_>>(), [7, 8, 1], "they are taken again, in order");
    assert_eq!(done.error.expect("one failed").to_string(), "broken");
}

#[test]
fn a_server_keeps_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("kafka-member");
    let first = member::name(None, &file, 0).expect("it is written");
    assert_eq!(member::name(None, &file, 0).expect("it is read"), first);
    assert_eq!(member::name(None, &file, 1).expect("it is read").strip_suffix("-1"), first.strip_suffix("-0"));
    assert_eq!(member::name(Some("ada"), &file, 2).expect("it is given"), "ada-2");
    assert!(member::name(None, &folder.path().join("missing/file"), 0).is_err());
}

#[test]
fn consumers_that_begin_at_once_have_one_name() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("kafka-member");
        let names = std::thread::scope(|scope| {
            let begun: Vec<_> = (0..8).map(|_| scope.spawn(|| member::name(None, &file, 0).expect("it is made"))).collect();
            begun.into_iter().map(|one| one.join().expect("no panic")).collect::<std::collections::HashSet<_>>()
        });
        assert_eq!(names.len(), 1, "{names:?}");
    }
}
