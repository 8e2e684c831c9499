use super::*;
use crate::client::testing::metrics;

fn connections(max: usize, per_source: usize) -> Arc<Connections> {
    Connections::new(max, per_source, metrics())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn closing(connection: &OpenConnection) -> bool {
    connection.orders().contain(Orders::CLOSE)
}

#[test]
fn a_connection_beyond_the_maximum_takes_the_place_of_the_one_that_was_idle_longest() {
    let all = connections(3, 3);
    let one = all.open(ip("192.0.2.1"), 5).unwrap();
    let two = all.open(ip("192.0.2.1"), 3).unwrap();
    let three = all.open(ip("192.0.2.1"), 4).unwrap();
    assert_eq!(all.metrics.open.get(), 3);
    let four = all.open(ip("192.0.2.9"), 6).unwrap();
    assert_eq!([&one, &two, &three, &four].map(closing), [false, true, false, false]);
    // A request, and its end at a later time.
    three.request_began();
    one.request_began();
    one.request_ended(7);
    drop(two);
    let five = all.open(ip("192.0.2.9"), 8).unwrap();
    assert_eq!([&one, &three, &four, &five].map(closing), [true, false, false, false]);
    five.request_began();
    four.request_began();
    // None is idle.
    assert!(all.open(ip("192.0.2.7"), 9).is_none());
    assert_eq!((all.metrics.rejected.get(), all.metrics.evicted.get()), (1, 2));
    drop((one, three, four, five));
    assert_eq!(all.metrics.open.get(), 0);
    let table = all.table();
    assert!(table.open.is_empty() && table.sources.is_empty() && table.counted == 0);
}

#[test]
fn the_source_with_the_most_connections_loses_an_idle_one_first() {
    let all = connections(4, 4);
    let quiet = all.open(ip("192.0.2.1"), 0).unwrap();
    let many: Vec<OpenConnection> = (1..4).map(|at| all.open(ip("192.0.2.2"), at).unwrap()).collect();
    let newer = all.open(ip("192.0.2.2"), 9).unwrap();
    assert!(!closing(&quiet) && closing(&many[0]) && !closing(&newer));
    let other = all.open(ip("192.0.2.3"), 9).unwrap();
    assert!(!closing(&quiet) && closing(&many[1]) && !closing(&other));
}

#[test]
fn a_source_beyond_its_maximum_loses_its_own_connections_and_no_others() {
    for (own, same, other) in [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff:1:2:3", "2001:db8:0:1::1"),
        ("::1", "::2", "0:0:0:1::1"),
    ] {
        let all = connections(100, 2);
        let before = all.open(ip(other), 0).unwrap();
        let one = all.open(ip(own), 1).unwrap();
        let two = all.open(ip(same), 2).unwrap();
        let three = all.open(ip(same), 3).unwrap();
        assert_eq!([&before, &one, &two, &three].map(closing), [false, true, false, false], "{own}");
        two.request_began();
        three.request_began();
        assert!(all.open(ip(own), 4).is_none(), "{own}");
        assert!(all.open(ip(other), 4).is_some(), "{own}");
    }
}

#[test]
fn a_source_with_more_than_its_part_of_the_requests_gets_no_more_under_pressure() {
    let all = connections(100, 100);
    let many: Vec<OpenConnection> = (0..30).map(|_| all.open(ip("192.0.2.1"), 0).unwrap()).collect();
    let few = all.open(ip("192.0.2.2"), 0).unwrap();
    many.iter().for_each(|one| one.request_began());
    let later = OVER_SHARE_FOR + 1;
    // The only source.
    all.measure(25, 0);
    assert!(many[0].over_share(false) && !few.over_share(false));
    all.measure(30, later - 1);
    assert!(many[0].over_share(false), "it had more a moment ago");
    all.measure(30, later);
    assert!(!many[0].over_share(false));
    // More than the average.
    few.request_began();
    all.measure(30, later);
    assert!(many[0].over_share(false) && !few.over_share(false));
    many.iter().skip(1).for_each(|one| one.request_ended(1));
    all.measure(30, 2 * later);
    assert!(!many[0].over_share(false) && !few.over_share(false));
    // And a connection with many.
    (0..PART_OF_CONNECTION).for_each(|_| few.request_began());
    assert!(few.over_share(false));
    // A source whose connections end is known for a while.
    many.iter().for_each(|one| one.request_began());
    all.measure(5, 2 * later);
    many.iter().for_each(|one| one.request_ended(1));
    many[0].request_ended(1);
    drop(many);
    let again = all.open(ip("192.0.2.1"), 0).unwrap();
    assert!(again.over_share(false));
    drop(again);
    all.measure(30, 3 * later);
    assert!(!all.open(ip("192.0.2.1"), 0).unwrap().over_share(false));
}

#[test]
fn a_source_that_takes_more_than_its_part_between_two_measurements_is_over_it() {
    let all = connections(100, 100);
    let first = all.open(ip("192.0.2.1"), 0).unwrap();
    let many: Vec<OpenConnection> = (0..9).map(|_| all.open(ip("192.0.2.2"), 0).unwrap()).collect();
    many.iter().take(4).for_each(|one| one.request_began());
    assert!(!many[0].over_share(false));
    many[4].request_began();
    assert!(many[0].over_share(false), "nothing was measured");
    many.iter().take(5).skip(1).for_each(|one| one.request_ended(0));
    first.request_began();
    assert_eq!(all.measure(25, 0), 2);
    assert!(!many[0].over_share(false) && !first.over_share(false));
    many[1].request_began();
    assert!(many[0].over_share(false) && many[2].over_share(false) && !first.over_share(false));
    many[1].request_ended(0);
    assert!(!many[2].over_share(false));
    // Also one that was not there.
    let new: Vec<OpenConnection> = (0..5).map(|_| all.open(ip("2001:db8::1"), 0).unwrap()).collect();
    new.iter().take(4).for_each(|one| one.request_began());
    assert!(!new[0].over_share(false));
    new[4].request_began();
    assert!(new[0].over_share(false));
    // One that may have more takes it in steps.
    (0..90).for_each(|_| first.request_began());
    assert_eq!(all.measure(25, 0), 3);
    assert!(!many[0].over_share(false) && !new[0].over_share(false));
    many.iter().take(4).for_each(|one| one.request_began());
    assert!(!many[0].over_share(false));
    many[4].request_began();
    assert!(many[0].over_share(false));
    all.measure(25, 0);
    assert!(!many[0].over_share(false));
}

#[test]
fn if_little_is_left_it_is_for_sources_with_at_most_half_of_the_average() {
    let all = connections(100, 100);
    let equal: Vec<OpenConnection> =
        (0..32).map(|at| all.open(ip(&format!("192.0.2.{}", at % 4)), 0).unwrap()).collect();
    equal.iter().for_each(|one| (0..3).for_each(|_| one.request_began()));
    let new = all.open(ip("198.51.100.1"), 0).unwrap();
    new.request_began();
    // Each has 24, and 20 is the average.
    assert_eq!(all.measure(100, 0), 5);
    assert!(equal[0].over_share(false) && !new.over_share(true));
    equal.iter().for_each(|one| one.request_ended(0));
    new.request_ended(0);
    all.measure(100, OVER_SHARE_FOR + 1);
    assert!(equal.iter().all(|one| !one.over_share(false) && one.over_share(true)), "all have the average");
    let newest = all.open(ip("198.51.100.2"), 0).unwrap();
    (0..4).for_each(|_| newest.request_began());
    assert!(!newest.over_share(true));
    newest.request_began();
    assert!(newest.over_share(true));
}

#[test]
fn the_connections_with_the_most_requests_are_aborted_first() {
    let all = connections(100, 100);
    let ordinary: Vec<OpenConnection> = (0..20).map(|at| all.open(ip(&format!("192.0.2.{at}")), 0).unwrap()).collect();
    let large = all.open(ip("198.51.100.1"), 0).unwrap();
    let idle = all.open(ip("198.51.100.1"), 0).unwrap();
    ordinary.iter().for_each(|one| one.request_began());
    (0..100).for_each(|_| large.request_began());
    all.abort_largest();
    assert!(large.orders().contain(Orders::ABORT) && !idle.orders().contain(Orders::ABORT));
    assert!(ordinary.iter().all(|one| !one.orders().contain(Orders::ABORT)));
    all.abort_largest();
    let aborted = ordinary.iter().filter(|one| one.orders().contain(Orders::ABORT)).count();
    assert_eq!((aborted, all.metrics.aborted.get()), (2, 3));
    assert!(ordinary[0].orders().contain(Orders::ABORT));
}

#[test]
fn orders_for_all_reach_connections_that_are_opened_later() {
    let all = connections(10, 10);
    let before = all.open(ip("192.0.2.1"), 0).unwrap();
    all.order(Orders::ANNOUNCE);
    let after = all.open(ip("192.0.2.1"), 0).unwrap();
    for connection in [&before, &after] {
        assert!(connection.orders().contain(Orders::ANNOUNCE) && !connection.orders().contain(Orders::CLOSE));
    }
}
