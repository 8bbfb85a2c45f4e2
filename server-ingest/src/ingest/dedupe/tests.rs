use super::*;

const ID: BatchId = BatchId([7; 16]);
const SECOND: u64 = 1_000_000_000;

const fn refused(records: u32) -> Before {
    Before { rejected_records: Some(records) }
}

fn recent(batch_id: BatchId, received_unix_nano: u64, rejected_records: Option<u32>) -> RecentBatch {
    RecentBatch { batch_id, received_unix_nano, rejected_records }
}

fn mine<F>(claim: Claim<F>) -> Claimed {
    match claim {
        Claim::Mine(claimed) => claimed,
        _ => panic!("the id should have been free"),
    }
}

#[test]
fn a_stored_batch_is_known_for_the_window_and_forgotten_after() {
    let window = DedupeWindow::new(vec![], 0);
    mine(window.claim(ID, SECOND, 0)).stored();
    assert!(matches!(window.claim(ID, 2 * SECOND, 0), Claim::Stored(before) if before == refused(0)));
    mine(window.claim(ID, 602 * SECOND, 0));
}

#[test]
fn a_batch_that_failed_may_be_sent_again() {
    let window = DedupeWindow::new(vec![], 0);
    drop(mine(window.claim(ID, SECOND, 0)));
    mine(window.claim(ID, SECOND, 0)).stored();
    assert!(matches!(window.claim(ID, SECOND, 0), Claim::Stored(before) if before == refused(0)));
}

#[test]
fn ids_of_the_log_are_known_after_a_restart() {
    let other = BatchId([8; 16]);
    let hour = 3600 * SECOND;
    let window = DedupeWindow::new(vec![recent(other, SECOND, None), recent(ID, 500 * SECOND, Some(2))], hour);
    assert!(
        matches!(window.claim(ID, hour + SECOND, 0), Claim::Stored(before) if before == refused(2)),
        "an hour without a server does not count"
    );
    assert!(matches!(window.claim(other, hour + SECOND, 0), Claim::Stored(Before { rejected_records: None })));
    mine(window.claim(other, hour + 200 * SECOND, 0));
    assert!(matches!(window.claim(ID, hour + 599 * SECOND, 0), Claim::Stored(before) if before == refused(2)));
}

#[tokio::test]
async fn a_twin_learns_the_outcome_of_the_first() {
    for is_stored in [true, false] {
        let window = DedupeWindow::new(vec![], 0);
        let first = mine(window.claim(ID, SECOND, 0));
        let Claim::UnderWay(twin) = window.claim(ID, SECOND, 0) else { panic!("the first is under way") };
        let waiting = tokio::spawn(twin);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        if is_stored {
            first.stored()
        } else {
            drop(first)
        }
        assert_eq!(waiting.await.expect("no panic"), is_stored.then_some(refused(0)));
    }
}

#[test]
fn what_was_kept_out_of_a_batch_is_remembered() {
    let window = DedupeWindow::new(vec![], 0);
    mine(window.claim(ID, SECOND, 3)).stored();
    assert!(matches!(window.claim(ID, 2 * SECOND, 0), Claim::Stored(before) if before == refused(3)));
}
