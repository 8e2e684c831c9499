//! When access keys were last used. `auth` notes it, and `config` reports it to the operator.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sluice_wire::{KeyUse, MAX_KEY_USES, PartName, Used};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The time between two reports.
const PAUSE: Duration = Duration::from_secs(60);
/// Times are noted to the minute: a key that is used by each request costs one store in a minute.
const SECONDS: u64 = 60;

/// The last use of an access key.
pub(crate) struct LastUse {
    /// The minute since 1970; 0: it was not used.
    minute: AtomicU64,
    wake: Arc<Notify>,
}

impl LastUse {
    /// A request was signed with the key.
    pub(crate) fn note(&self, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let minute = since.as_secs() / SECONDS;
        // Of requests at the same time any may be the last one: the times differ by less than the granularity.
        if self.minute.load(Ordering::Relaxed) < minute {
            self.minute.store(minute, Ordering::Relaxed);
            self.wake.notify_one();
        }
    }
}

/// The last uses of all access keys. Clones are the same.
#[derive(Clone, Default)]
pub struct KeyUses(Arc<Shared>);

#[derive(Default)]
struct Shared {
    keys: Mutex<Keys>,
    wake: Arc<Notify>,
}

/// The part of a Principal, and the id of one of its keys.
type Id = (PartName, Box<str>);

#[derive(Default)]
struct Keys {
    all: BTreeMap<Id, Key>,
    /// The last key of a report that was full: the next one begins after it.
    reported_until: Option<Id>,
    reported: Option<Instant>,
}

struct Key {
    last: Arc<LastUse>,
    /// The minute that was reported.
    reported: u64,
}

impl std::fmt::Debug for KeyUses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyUses")
    }
}

impl KeyUses {
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the uses of a key are noted: the same as before, if the Principal had the key already.
    pub(crate) fn of(&self, principal: &PartName, id: &str) -> Arc<LastUse> {
        let wake = &self.0.wake;
        let new = || Key { last: Arc::new(LastUse { minute: AtomicU64::new(0), wake: wake.clone() }), reported: 0 };
        self.keys().all.entry((principal.clone(), id.into())).or_insert_with(new).last.clone()
    }

    /// Forgets the keys that a Principal does not have any more.
    pub(crate) fn retain(&self, principal: &PartName, has: impl Fn(&str) -> bool) {
        let mut keys = self.keys();
        let first = (principal.clone(), Box::default());
        let of_principal = keys.all.range(first..).map(|(id, _)| id).take_while(|(name, _)| name == principal);
        let gone: Vec<Id> = of_principal.filter(|(_, id)| !has(id)).cloned().collect();
        for id in &gone {
            keys.all.remove(id);
        }
    }

    /// An operator has connected, which may not know what was reported before.
    pub(crate) fn connect(&self) {
        self.keys().all.values_mut().for_each(|key| key.reported = 0);
    }

    /// The next report: not before a key was used, and a minute after the last report at the earliest.
    pub(crate) async fn next(&self) -> Used {
        loop {
            let last = self.keys().reported;
            if let Some(last) = last {
                tokio::time::sleep_until(last + PAUSE).await;
            }
            if let Some(used) = self.take() {
                return used;
            }
            self.0.wake.notified().await;
        }
    }

    /// What was not reported yet, as much as fits into a report.
    fn take(&self) -> Option<Used> {
        let mut keys = self.keys();
        let after = keys.reported_until.take();
        let (mut used, mut last) = (Vec::new(), None);
        let mut add = |((principal, id), key): (&Id, &mut Key)| {
            let minute = key.last.minute.load(Ordering::Relaxed);
            if minute > key.reported && used.len() < MAX_KEY_USES {
                key.reported = minute;
                used.push(KeyUse { principal: principal.clone(), id: id.to_string(), at: minute * SECONDS });
                last = Some((principal.clone(), id.clone()));
            }
        };
        match &after {
            None => keys.all.iter_mut().for_each(&mut add),
            Some(after) => {
                keys.all.range_mut::<Id, _>((Excluded(after), Unbounded)).for_each(&mut add);
                keys.all.range_mut::<Id, _>((Unbounded, Included(after))).for_each(&mut add);
            }
        }
        keys.reported_until = last.filter(|_| used.len() == MAX_KEY_USES);
        if used.is_empty() {
            return None;
        }
        keys.reported = Some(Instant::now());
        Some(Used { keys: used })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sluice_wire::PartKind;

    use super::*;

    fn principal(name: &str) -> PartName {
        PartName::of_object(PartKind::Principal, "shop", name)
    }

    fn at(minute: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(minute * SECONDS + 17)
    }

    /// The names, ids and minutes of a report.
    fn shown(used: &Used) -> Vec<String> {
        let one = |one: &KeyUse| format!("{}/{} {}", one.principal.id(), one.id, one.at / SECONDS);
        used.keys.iter().map(one).collect()
    }

    /// The next report, and after how many seconds it comes; none: no report within an hour.
    async fn next(uses: &KeyUses) -> Option<(Vec<String>, u64)> {
        let began = Instant::now();
        let used = tokio::time::timeout(Duration::from_secs(3600), uses.next()).await.ok()?;
        Some((shown(&used), began.elapsed().as_secs()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_changed_is_reported_once_at_most_once_a_minute_and_again_after_a_reconnect() {
        let uses = KeyUses::default();
        let (ann, bob) = (uses.of(&principal("ann"), "A"), uses.of(&principal("bob"), "B"));
        assert_eq!(next(&uses).await, None, "nothing was used");
        ann.note(at(5));
        assert_eq!(next(&uses).await, Some((vec!["shop/ann/A 5".to_owned()], 0)));
        assert_eq!(next(&uses).await, None, "it was reported");
        ann.note(at(6));
        bob.note(at(6));
        bob.note(at(4));
        let both = ["shop/ann/A 6", "shop/bob/B 6"].map(str::to_owned).to_vec();
        assert_eq!(next(&uses).await, Some((both.clone(), 0)));
        bob.note(at(7));
        assert_eq!(next(&uses).await, Some((vec!["shop/bob/B 7".to_owned()], 60)));
        uses.connect();
        let both = ["shop/ann/A 6", "shop/bob/B 7"].map(str::to_owned).to_vec();
        assert_eq!(next(&uses).await, Some((both, 60)));
        // A use while a report is awaited.
        tokio::time::advance(PAUSE).await;
        let (found, ()) = tokio::join!(next(&uses), async {
            tokio::task::yield_now().await;
            ann.note(at(9));
        });
        assert_eq!(found, Some((vec!["shop/ann/A 9".to_owned()], 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_keeps_its_time_until_the_principal_does_not_have_it() {
        let uses = KeyUses::default();
        let name = principal("ann");
        uses.of(&name, "A").note(at(5));
        uses.of(&name, "B").note(at(6));
        uses.of(&principal("anna"), "A").note(at(7));
        uses.retain(&name, |id| id == "B");
        uses.of(&name, "B");
        uses.of(&name, "A");
        let left = ["shop/ann/B 6", "shop/anna/A 7"].map(str::to_owned).to_vec();
        assert_eq!(next(&uses).await, Some((left, 0)));
        uses.retain(&name, |_| false);
        uses.connect();
        assert_eq!(next(&uses).await, Some((vec!["shop/anna/A 7".to_owned()], 60)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_is_limited_and_no_key_is_always_left_out() {
        let uses = KeyUses::default();
        let ids: BTreeSet<String> = (0..2 * MAX_KEY_USES + 10).map(|number| format!("K{number:08}")).collect();
        let all: Vec<Arc<LastUse>> = ids.iter().map(|id| uses.of(&principal("ann"), id)).collect();
        let mut reported = BTreeSet::new();
        for round in 1..=3 {
            // Each key is used again and again.
            all.iter().for_each(|key| key.note(at(round)));
            let used = uses.next().await;
            assert!(used.keys.len() <= MAX_KEY_USES);
            reported.extend(used.keys.into_iter().map(|one| one.id));
        }
        assert_eq!(reported, ids);
    }
}
