//! When the responses of a path became invalid, because a request changed what is there (RFC 9111, 4.4).

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;

use foldhash::quality::RandomState;

/// Places of one cache. Two paths with the same place are invalidated together.
const PLACES: usize = 1 << 12;

/// Seeded, so that clients cannot choose paths with the same place.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// The place of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PathPlace(u16);

impl PathPlace {
    pub(super) fn of(path: &str) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "less than PLACES")]
        Self((HASHER.hash_one(path) as usize % PLACES) as u16)
    }
}

/// The times of all places.
#[derive(Debug)]
pub(super) struct Invalidated {
    began: Instant,
    /// Nanoseconds after `began`, plus one. Most caches need none.
    times: OnceLock<Box<[AtomicU64]>>,
}

impl Invalidated {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), times: OnceLock::new() }
    }

    fn time(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(super) fn invalidate(&self, place: PathPlace, now: Instant) {
        let times = self.times.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        if let Some(time) = times.get(usize::from(place.0)) {
            time.fetch_max(self.time(now), Ordering::AcqRel);
        }
    }

    /// Whether a response that was requested at `requested` has become invalid.
    pub(super) fn is_since(&self, place: PathPlace, requested: Instant) -> bool {
        let time = self.times.get().and_then(|times| times.get(usize::from(place.0)));
        time.is_some_and(|time| self.time(requested) <= time.load(Ordering::Acquire))
    }
}
