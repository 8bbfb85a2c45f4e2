use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn an_address_has_its_number_and_all_have_theirs() {
    let slots = Slots::new(5, Some(2));
    let first = [slots.take(address("192.0.2.1")).expect("free"), slots.take(address("::ffff:192.0.2.1")).expect("free")];
    assert_eq!(slots.take(address("192.0.2.1")).expect_err("it has two"), "too_many_of_address");
    let others = [address("2001:db8::1"), address("2001:db8::2"), address("192.0.2.2")].map(|address| slots.take(address).expect("free"));
    assert_eq!(slots.take(address("192.0.2.3")).expect_err("there are five"), "too_many");
    drop(first);
    assert_eq!(slots.take(address("2001:db8::3")).expect_err("its network has two"), "too_many_of_address");
    drop((slots.take(address("2001:db8:0:1::3")).expect("another network"), others));
    let taken = slots.0.lock();
    assert_eq!((taken.all, taken.by_address.len()), (0, 0), "nothing is kept of those who left");
}

#[test]
fn without_a_limit_one_address_may_have_all() {
    let slots = Slots::new(3, None);
    let all = [(); 3].map(|()| slots.take(address("127.0.0.1")).expect("free"));
    assert_eq!(slots.take(address("127.0.0.1")).expect_err("there are three"), "too_many");
    drop(all);
}
