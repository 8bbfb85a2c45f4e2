use std::io::Write;

use http_body_util::{Full, StreamBody};

use super::*;

const LIMIT: usize = 1024 * 1024;

fn intake(budget: usize) -> Intake {
    Intake {
        admission: Admission::new(budget),
        turns: Turns::default(),
        max_request_bytes: LIMIT,
        body_silence: Duration::from_secs(10),
        body_timeout: Duration::from_secs(60),
    }
}

fn received(intake: &Intake, payload: Bytes) -> Received {
    let mut room = intake.admission.begin(&Arc::default(), payload.len()).expect("room");
    room.grow(payload.len()).expect("room");
    Received { payload, room }
}

fn inflate(intake: &Intake, compression: Compression, body: Bytes) -> Result<Received, IngestError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("threads");
    let received = received(intake, body);
    runtime.block_on(async { intake.inflate(compression, received).await })
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    Bytes::from(encoder.finish().expect("memory"))
}

fn pieces(pieces: &[&[u8]]) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + use<> {
    let frames: Vec<_> = pieces.iter().map(|piece| Ok(http_body::Frame::data(Bytes::copy_from_slice(piece)))).collect();
    StreamBody::new(futures::stream::iter(frames))
}

#[test]
fn each_compression_gives_the_same_bytes_and_counts_what_it_takes() {
    let intake = intake(10 * LIMIT);
    let plain: Bytes = b"spans ".repeat(50_000).into();
    let zstd = Bytes::from(zstd::encode_all(&plain[..], 1).expect("memory"));
    for (compression, body) in [(Compression::Gzip, gzip(&plain)), (Compression::Zstd, zstd)] {
        let inflated = inflate(&intake, compression, body).expect("valid");
        assert_eq!(inflated.payload, plain, "{compression:?}");
        let used = intake.admission.used_bytes();
        assert!(used >= plain.len() && used < plain.len() + 10_000, "{used}");
        drop(inflated);
        assert_eq!(intake.admission.used_bytes(), 0);
    }
}

#[test]
fn all_members_of_a_gzip_body_are_read() {
    let intake = intake(10 * LIMIT);
    let body = [gzip(b"first "), gzip(b"second")].concat();
    let inflated = inflate(&intake, Compression::Gzip, body.into()).expect("valid");
    assert_eq!(inflated.payload, "first second");
}

#[test]
fn a_bomb_is_refused_at_the_limit_and_at_the_budget() {
    let zeros = vec![0; LIMIT + 1];
    let zstd = Bytes::from(zstd::encode_all(&zeros[..], 1).expect("memory"));
    for (compression, body) in [(Compression::Gzip, gzip(&zeros)), (Compression::Zstd, zstd)] {
        let wide = intake(10 * LIMIT);
        let outcome = inflate(&wide, compression, body.clone());
        assert!(matches!(outcome, Err(IngestError::TooLarge { .. })), "{outcome:?}");
        let narrow = intake(LIMIT / 2);
        let outcome = inflate(&narrow, compression, body);
        assert!(matches!(outcome, Err(IngestError::Overloaded { .. })), "{outcome:?}");
        assert_eq!((wide.admission.used_bytes(), narrow.admission.used_bytes()), (0, 0));
    }
}

#[test]
fn a_body_that_lies_about_its_size_gets_what_it_needs_and_no_more() {
    let intake = intake(10 * LIMIT);
    let plain = b"spans ".repeat(50_000);
    for said in [0_u32, 5, 299_999, 300_001, 900_000, u32::MAX] {
        let mut body = gzip(&plain).to_vec();
        let end = body.len() - 4;
        body[end..].copy_from_slice(&said.to_le_bytes());
        let outcome = inflate(&intake, Compression::Gzip, body.into());
        assert!(matches!(outcome, Err(IngestError::Contradictory(_))), "{said}: {outcome:?}");
        // Two members: the last says nothing about the first.
        let body = [gzip(&plain), gzip(&plain[..said as usize % 1000])].concat();
        let inflated = inflate(&intake, Compression::Gzip, body.into()).expect("valid");
        assert_eq!(inflated.payload.len(), plain.len() + said as usize % 1000);
        let used = intake.admission.used_bytes();
        assert!(used >= inflated.payload.len() && used < inflated.payload.len() + 10_000, "{used}");
        drop(inflated);
        assert_eq!(intake.admission.used_bytes(), 0);
    }
}

#[test]
fn what_is_not_compressed_as_it_says_is_refused() {
    let intake = intake(10 * LIMIT);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let outcome = inflate(&intake, compression, Bytes::from_static(b"plain"));
        assert!(matches!(outcome, Err(IngestError::Contradictory(_))), "{compression:?} {outcome:?}");
    }
    assert!(matches!(Compression::named("br"), Err(IngestError::UnknownEncoding { .. })));
    assert_eq!(Compression::named("GZIP").expect("known"), Some(Compression::Gzip));
}

#[tokio::test]
async fn a_message_in_any_pieces_is_one_message() {
    let intake = intake(10 * LIMIT);
    let frame = [&[1, 0, 0, 0, 6][..], b"abcdef"].concat();
    for cut in 1..frame.len() {
        let (first, second) = frame.split_at(cut);
        let (received, is_compressed) = intake.grpc_message(&Arc::default(), pieces(&[first, second])).await.expect("whole");
        assert_eq!((&received.payload[..], is_compressed), (&b"abcdef"[..], true), "cut at {cut}");
    }
    let every: Vec<&[u8]> = frame.chunks(1).collect();
    assert_eq!(intake.grpc_message(&Arc::default(), pieces(&every)).await.expect("whole").0.payload, "abcdef");
    for cut in 0..frame.len() {
        intake.grpc_message(&Arc::default(), pieces(&[&frame[..cut]])).await.expect_err("broken off");
    }
    let twice = frame.repeat(2);
    assert!(matches!(intake.grpc_message(&Arc::default(), pieces(&[&twice])).await, Err(IngestError::Contradictory(_))));
}

#[tokio::test]
async fn an_announced_length_over_the_limit_is_refused_before_it_comes() {
    let intake = intake(10 * LIMIT);
    let never = StreamBody::new(futures::stream::pending::<Result<http_body::Frame<Bytes>, std::convert::Infallible>>());
    assert!(matches!(intake.whole(&Arc::default(), never, Some(LIMIT + 1), None).await, Err(IngestError::TooLarge { .. })));
    let head = [&[0][..], &u32::MAX.to_be_bytes()].concat();
    assert!(matches!(intake.grpc_message(&Arc::default(), pieces(&[&head])).await, Err(IngestError::TooLarge { .. })));
    let over = Full::new(Bytes::from(vec![0; LIMIT + 1]));
    assert!(matches!(intake.whole(&Arc::default(), over, None, None).await, Err(IngestError::TooLarge { .. })));
}

#[tokio::test]
async fn a_silent_body_ends_and_gives_its_room_back() {
    use futures::StreamExt;
    let intake = Intake { body_silence: Duration::from_millis(100), body_timeout: Duration::from_millis(300), ..intake(10 * LIMIT) };
    let begun = futures::stream::iter([Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from_static(&[0, 0, 0])))]);
    let silent = StreamBody::new(begun.chain(futures::stream::pending()));
    assert!(matches!(intake.grpc_message(&Arc::default(), silent).await, Err(IngestError::TooSlow)));
    let drip = Box::pin(futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from_static(b"x"))), ()))
    }));
    assert!(
        matches!(intake.whole(&Arc::default(), StreamBody::new(drip), None, None).await, Err(IngestError::TooSlow)),
        "dripping does not help"
    );
    assert_eq!(intake.admission.used_bytes(), 0);
}

/// Three large bodies where two have permits, which are silent: the third comes in as soon as one has lost its own.
#[tokio::test]
async fn who_is_slow_loses_his_permit_to_those_who_wait() {
    use futures::StreamExt;
    const BYTES: usize = 64 * 1024;
    let intake = Intake { max_request_bytes: BYTES, ..intake(4 * BYTES) };
    let silent = || {
        let begun = futures::stream::iter([Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from_static(&[0; 100])))]);
        let (intake, body) = (intake.clone(), StreamBody::new(begun.chain(futures::stream::pending())));
        tokio::spawn(async move { intake.whole(&Arc::default(), body, Some(BYTES), None).await.map(drop) })
    };
    let slow = [silent(), silent()];
    tokio::time::sleep(Duration::from_millis(50)).await;
    let prompt = Full::new(Bytes::from(vec![0; BYTES]));
    let received = intake.whole(&Arc::default(), prompt, Some(BYTES), None).await.expect("there is room");
    assert_eq!(received.payload.len(), BYTES);
    assert!(slow.iter().all(|slow| !slow.is_finished()), "they may go on without");
    slow.into_iter().for_each(|slow| slow.abort());
}
