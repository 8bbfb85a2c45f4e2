use super::{BinLimits, Order, Watched};

const INF: f64 = f64::INFINITY;

#[test]
fn a_bin_holds_its_upper_limit_and_not_its_lower_one() {
    let adjoining = BinLimits::of_ranges(vec![(-INF, 1.0), (1.0, 2.0), (2.0, INF)]);
    assert!(matches!(adjoining, BinLimits::Adjoining { .. }));
    let gap = BinLimits::of_ranges(vec![(0.0, 1.0), (2.0, 3.0), (2.5, 4.0)]);
    assert!(matches!(gap, BinLimits::Ranges(_)));
    for (value, in_adjoining, in_gap) in [
        (f64::MIN, Some(0), None),
        (0.0, Some(0), None),
        (1.0, Some(0), Some(0)),
        (1.0_f64.next_up(), Some(1), None),
        (2.0, Some(1), None),
        (2.75, Some(2), Some(1)),
        (4.0, Some(2), Some(2)),
        (f64::MAX, Some(2), None),
        (INF, Some(2), None),
        (-INF, None, None),
        (f64::NAN, None, None),
    ] {
        assert_eq!((adjoining.place(value), gap.place(value)), (in_adjoining, in_gap), "{value}");
    }
    let closed = BinLimits::of_ranges(vec![(0.0, 1.0), (1.0, 2.0)]);
    assert_eq!([-1.0, 0.0, 0.5, 2.0, 2.1].map(|value| closed.place(value)), [None, None, Some(0), Some(1), None]);
}

#[test]
fn categories_need_no_order_and_cut_off_what_is_behind_the_point() {
    let categories = BinLimits::of_categories(&[7, 0, -3]);
    assert_eq!(
        [7.0, 7.9, 0.2, -0.2, -3.5, 8.0, 1e300].map(|value| categories.place(value)),
        [Some(0), Some(0), Some(1), Some(1), Some(2), None, None]
    );
}

#[test]
fn names_are_found_in_any_order_and_the_order_is_learned() {
    let mut watched = Watched::default();
    for name in ["a", "b", "c"] {
        assert!(watched.add("uid", name));
    }
    assert!(!watched.add("uid", "b"));
    let mut order = Order::default();
    let mut find = |names: &[&str]| {
        order.begin();
        names.iter().map(|name| watched.place(name, &mut order)).collect::<Vec<_>>()
    };
    assert_eq!(find(&["c", "x", "a", "b", "a"]), [Some(2), None, Some(0), Some(1), Some(0)]);
    assert_eq!(find(&["c", "a", "b"]), [Some(2), Some(0), Some(1)]);
    assert_eq!(find(&["a", "b", "c"]), [Some(0), Some(1), Some(2)]);
    assert_eq!(find(&["", "c"]), [None, Some(2)]);
}
