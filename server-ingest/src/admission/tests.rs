use super::*;

#[test]
fn room_is_taken_as_it_is_needed_and_given_back() {
    let admission = Admission::new(100_000);
    let mut first = admission.begin(90_000).expect("fits");
    assert_eq!(admission.used_bytes(), REQUEST_BYTES, "what is announced is not yet taken");
    first.grow(90_000).expect("fits");
    assert!(matches!(admission.begin(50_000), Err(IngestError::Overloaded)));
    assert!(matches!(first.grow(50_000), Err(IngestError::Overloaded)));
    first.shrink(80_000);
    let second = admission.begin(50_000).expect("fits again");
    drop((first, second));
    assert_eq!((admission.used_bytes(), admission.refused()), (0, 2));
}
