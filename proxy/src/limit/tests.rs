//! Buckets over time, with two threads, and with changing configurations.

use std::time::Duration;

use proptest::prelude::*;
use sluice_wire::PartKind;

use super::bucket::{LONGEST_PERIOD, Share};
use super::*;

fn id(rule: &str) -> BucketId {
    BucketId::Rule {
        stage: PartName::new(PartKind::Stage, "shop/prod"),
        route: PartName::new(PartKind::Route, "shop/orders"),
        rule: rule.to_owned(),
    }
}

fn limit(limits: &Buckets, rule: &str, rate: u32, burst: u32) -> Limit {
    limits.limit(id(rule), Throttle { rate, per_ms: 1000, burst })
}

fn passes(limit: &Limit, proxies: u32, now: Instant, tries: usize) -> usize {
    (0..tries).filter(|_| take_all(&[limit], proxies, now).is_ok()).count()
}

#[test]
fn a_bucket_gives_its_burst_then_its_rate_then_the_burst_again() {
    let limits = Buckets::default();
    let limit = limit(&limits, "a", 10, 5);
    let start = Instant::now();
    assert_eq!(passes(&limit, 1, start, 20), 5);
    let exhausted = take_all(&[&limit], 1, start).unwrap_err();
    assert_eq!(exhausted.index, 0);
    assert_eq!(exhausted.retry_after, Duration::from_millis(100));
    assert_eq!(passes(&limit, 1, start + Duration::from_millis(100), 20), 1);
    assert_eq!(passes(&limit, 1, start + Duration::from_secs(60), 20), 5);
}

#[test]
fn shares_of_a_fleet() {
    // (proxies, burst, what passes at once, what passes in the next second)
    for (proxies, burst, at_once, per_second) in
        [(1, 10, 10, 10), (2, 10, 5, 5), (5, 10, 2, 2), (100, 10, 1, 0), (0, 10, 10, 10)]
    {
        let limits = Buckets::default();
        let limit = limit(&limits, "a", 10, burst);
        let start = Instant::now();
        assert_eq!(passes(&limit, proxies, start, 50), at_once, "{proxies} proxies");
        let passed =
            (1..=100).filter(|i| take_all(&[&limit], proxies, start + Duration::from_millis(i * 10)).is_ok()).count();
        assert_eq!(passed, per_second, "{proxies} proxies");
    }
}

#[test]
fn a_slow_rate_is_exact_to_the_nanosecond_and_shared_by_the_fleet() {
    const NANO: Duration = Duration::from_nanos(1);
    // (rate, period, proxies, the time until the next token of one proxy)
    for (rate, per_s, proxies, wait_s) in
        [(1, 3600, 1, 3600), (1, 3600, 3, 3 * 3600), (2, 86_400, 1, 43_200), (5, 60, 2, 24), (7, 86_400, 7, 86_400)]
    {
        let limits = Buckets::default();
        let limit = limits.limit(id("slow"), Throttle { rate, per_ms: per_s * 1000, burst: 1 });
        let mut now = Instant::now();
        assert!(take_all(&[&limit], proxies, now).is_ok());
        for _ in 0..100 {
            let wait = Duration::from_secs(wait_s);
            assert_eq!(take_all(&[&limit], proxies, now).unwrap_err().retry_after, wait);
            assert_eq!(take_all(&[&limit], proxies, now + wait - NANO).unwrap_err().retry_after, NANO);
            now += wait;
            assert!(take_all(&[&limit], proxies, now).is_ok(), "{rate} per {per_s} s among {proxies}");
        }
    }
}

#[test]
fn thirds_of_a_second_do_not_drift() {
    let limits = Buckets::default();
    let limit = limit(&limits, "a", 3, 2);
    let start = Instant::now();
    // A caller at exactly the rate, on a clock of whole nanoseconds, for a day.
    for call in 0..259_200_u64 {
        let at = start + Duration::from_nanos((call * 1_000_000_000).div_ceil(3));
        assert!(take_all(&[&limit], 1, at).is_ok(), "call {call}");
    }
}

#[test]
fn a_change_of_the_period_keeps_the_used_tokens() {
    let start = Instant::now();
    for (rate, per_ms, proxies) in [(1, 3_600_000, 1), (1, 1000, 1), (1, 86_400_000, 65_536), (1, u32::MAX, u32::MAX)] {
        let limits = Buckets::default();
        assert_eq!(passes(&limit(&limits, "a", 1, 10), 1, start, 20), 10);
        let changed = limits.limit(id("a"), Throttle { rate, per_ms, burst: 10 });
        assert_eq!(passes(&changed, proxies, start, 20), 0, "{rate} per {per_ms} ms among {proxies}");
        assert_eq!(passes(&limit(&limits, "a", 1, 10), 1, start, 20), 0, "{rate} per {per_ms} ms among {proxies}");
    }
}

#[test]
fn a_fleet_of_every_size_leaves_whole_tokens_whole() {
    let limits = Buckets::default();
    let start = Instant::now();
    let bucket = limit(&limits, "a", 0, 100);
    assert_eq!(passes(&bucket, 1, start, 100), 100);
    for proxies in (2..50).flat_map(|proxies| [proxies, 1, 2 * proxies + 1]) {
        assert_eq!(passes(&bucket, proxies, start, 1), 0, "{proxies} proxies");
    }
    assert_eq!(passes(&limit(&limits, "a", 0, 130), 1, start, 100), 30);
}

#[test]
fn nothing_passes_a_burst_of_zero_and_a_rate_of_zero_never_refills() {
    let limits = Buckets::default();
    let start = Instant::now();
    let closed = limit(&limits, "closed", 10, 0);
    let exhausted = take_all(&[&closed], 1, start).unwrap_err();
    assert_eq!(exhausted.retry_after, LONGEST_PERIOD);
    let once = limit(&limits, "once", 0, 2);
    assert_eq!(passes(&once, 1, start, 5), 2);
    assert_eq!(passes(&once, 1, start + Duration::from_secs(86_400), 5), 0);
}

#[test]
fn a_rejection_returns_the_tokens_of_earlier_limits() {
    let limits = Buckets::default();
    let (wide, narrow) = (limit(&limits, "wide", 1, 3), limit(&limits, "narrow", 1, 1));
    let now = Instant::now();
    assert!(take_all(&[&wide, &narrow], 1, now).is_ok());
    for _ in 0..10 {
        assert_eq!(take_all(&[&wide, &narrow], 1, now).unwrap_err().index, 1);
    }
    assert_eq!(passes(&wide, 1, now, 10), 2);
}

#[test]
fn two_threads_never_take_more_tokens_than_the_bucket_has() {
    let limits = Buckets::default();
    let limit = limit(&limits, "a", 0, 10_000);
    let now = Instant::now();
    let total: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| passes(&limit, 1, now, 20_000))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(total, 10_000);
}

#[test]
fn a_new_configuration_neither_refills_nor_empties() {
    let limits = Buckets::default();
    let start = Instant::now();
    let old = limit(&limits, "a", 10, 10);
    assert_eq!(passes(&old, 1, start, 10), 10);
    for rate in [100, 1, 10] {
        let new = limit(&limits, "a", rate, 10);
        assert_eq!(passes(&new, 1, start, 10), 0, "rate {rate}");
    }
    // Unreferenced during a sweep: the used tokens are still used when it is referenced again.
    drop(old);
    limits.sweep(start);
    assert_eq!(passes(&limit(&limits, "a", 10, 10), 1, start, 10), 0);
}

#[test]
fn the_sweep_removes_full_and_unreferenced_buckets() {
    let limits = Buckets::default();
    let start = Instant::now();
    let kept = limit(&limits, "kept", 10, 10);
    let gone = limit(&limits, "gone", 10, 10);
    assert!(take_all(&[&kept, &gone], 1, start).is_ok());
    drop(gone);
    limits.sweep(start);
    assert_eq!(limits.registry().buckets.len(), 2);
    limits.sweep(start + Duration::from_secs(1));
    assert_eq!(limits.registry().buckets.len(), 1);
    assert!(limits.registry().buckets.contains_key(&id("kept")));
}

#[test]
fn the_old_rate_applies_until_the_change() {
    let limits = Buckets::default();
    let start = Instant::now();
    assert_eq!(passes(&limit(&limits, "a", 1, 10), 1, start, 10), 10);
    // Two seconds at one a second, then a hundred a second from now on.
    assert_eq!(passes(&limit(&limits, "a", 100, 10), 1, start + Duration::from_secs(2), 10), 2);
}

#[test]
fn shrinking_and_growing_refills_nothing() {
    let start = Instant::now();
    // (burst, proxies) one after the other at one instant: the used tokens stay used.
    for steps in [[(100, 1), (100, 2), (100, 1)], [(100, 1), (10, 1), (100, 1)], [(100, 1), (0, 1), (100, 1)]] {
        let limits = Buckets::default();
        assert_eq!(passes(&limit(&limits, "a", 1, steps[0].0), steps[0].1, start, 200), 100);
        for (burst, proxies) in steps {
            assert_eq!(passes(&limit(&limits, "a", 1, burst), proxies, start, 200), 0, "{steps:?}");
        }
    }
}

#[test]
fn a_smaller_bucket_is_not_blocked_by_tokens_taken_from_the_larger_one() {
    let limits = Buckets::default();
    let start = Instant::now();
    assert_eq!(passes(&limit(&limits, "a", 1, 1000), 1, start, 1000), 1000);
    let small = limit(&limits, "a", 1, 10);
    assert_eq!(passes(&small, 1, start, 10), 0);
    for second in 1..=5 {
        assert_eq!(passes(&small, 1, start + Duration::from_secs(second), 10), 1);
    }
    let large = limit(&limits, "a", 1, 1000);
    assert_eq!(passes(&large, 1, start + Duration::from_secs(5), 1000), 0);
}

/// The textbook token bucket, as the reference while nothing changes.
struct Textbook {
    tokens: f64,
    rate: f64,
    capacity: f64,
}

impl Textbook {
    fn take(&mut self, elapsed: f64) -> bool {
        self.tokens = (self.tokens + elapsed * self.rate).min(self.capacity);
        let full = self.tokens >= 1.0;
        self.tokens -= if full { 1.0 } else { 0.0 };
        full
    }
}

proptest! {
    #[test]
    fn no_sequence_of_changes_lets_more_through_than_the_most_generous_of_them(
        // Mostly at one instant, with low rates and many requests, so that the result depends on the stored level.
        steps in prop::collection::vec(
            (prop_oneof![3 => Just(0), 1 => 0..1500_u64], 0..3_u32, prop_oneof![Just(1000_u32), 300..5000_u32], 0..40_u32, 1..4_u32, 1..60_usize),
            1..12,
        )
    ) {
        let limits = Buckets::default();
        #[expect(clippy::cast_precision_loss, reason = "the textbook counts in floats")]
        let shares: Vec<(f64, f64)> = steps
            .iter()
            .map(|(_, rate, per_ms, burst, fleet, _)| {
                let share = Share::new(Throttle { rate: *rate, per_ms: *per_ms, burst: *burst }, *fleet);
                let token = share.token() as f64;
                (f64::from(*rate) * 1e9 / token, share.capacity() as f64 / token)
            })
            .collect();
        let most = |part: fn(&(f64, f64)) -> f64| shares.iter().map(part).fold(0.0, f64::max);
        // Rounding may differ.
        let capacity = most(|share| share.1) + 1e-3;
        let mut generous = Textbook { tokens: capacity, rate: most(|share| share.0), capacity };
        let (mut now, mut passed, mut allowed) = (Instant::now(), 0, 0);
        for (millis, rate, per_ms, burst, fleet, tries) in steps {
            let limit = limits.limit(id("a"), Throttle { rate, per_ms, burst });
            let pause = Duration::from_millis(millis);
            now += pause;
            let mut elapsed = pause.as_secs_f64();
            for _ in 0..tries {
                passed += usize::from(take_all(&[&limit], fleet, now).is_ok());
                allowed += usize::from(generous.take(std::mem::take(&mut elapsed)));
                prop_assert!(passed <= allowed, "{passed} of {allowed}");
            }
        }
    }
}
