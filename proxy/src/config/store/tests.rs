//! What survives a restart, a crash in the middle of a write, and a damaged disk.

use std::sync::atomic::{AtomicU32, Ordering};

use sluice_wire::{Down, Outcome, PartKind, Up};

use super::*;
use crate::access_review::AccessReviews;
use crate::config::{Sink, Subscriber};
use crate::key_use::KeyUses;

static NEXT: AtomicU32 = AtomicU32::new(0);

struct Dir(PathBuf);
impl Dir {
    fn new() -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("sluice-store-{}-{n}", std::process::id())))
    }

    fn open(&self) -> Store {
        self.open_in(&FleetName::default())
    }

    fn open_in(&self, fleet: &FleetName) -> Store {
        Store::open(&self.0, fleet).unwrap()
    }
}
impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

impl Store {
    async fn saved(&self, parts: &Parts<Part>) {
        self.save(parts);
        self.flush().await;
    }

    /// With a list of its failures.
    fn failures(self) -> (Self, Arc<Mutex<Vec<Operation>>>) {
        let failures = Arc::new(Mutex::new(Vec::new()));
        let list = failures.clone();
        (self.on_failure(Arc::new(move |operation| locked(&list).push(operation))), failures)
    }
}

fn part(kind: PartKind, id: &str, json: &str) -> (PartName, Part) {
    let name = PartName::new(kind, id);
    (name.clone(), Part { name, hash: Hash::of(json.as_bytes()), json: json.into() })
}

fn world() -> Parts<Part> {
    [
        part(PartKind::Stage, "shop/prod", "{\"a\":1}"),
        part(PartKind::Route, "shop/orders", "{\"b\":2}"),
        part(PartKind::Certificate, "shop/tls", "{\"key\":\"secret\"}"),
    ]
    .into_iter()
    .collect()
}

#[tokio::test]
async fn what_was_saved_is_loaded_and_certificates_only_where_they_may_be() {
    for secrets in [true, false] {
        let dir = Dir::new();
        let mut store = dir.open();
        store.secrets = secrets;
        store.saved(&world()).await;
        let mut expected = world();
        if !secrets {
            expected.remove(&PartName::new(PartKind::Certificate, "shop/tls"));
        }
        assert_eq!(dir.open().load().unwrap_or_default(), expected);
        let text = fs::read_to_string(&store.path).unwrap();
        assert_eq!(text.contains("secret"), secrets);
    }
}

#[tokio::test]
async fn a_part_that_gets_a_secret_is_removed_where_secrets_may_not_be_stored() {
    let authorizer = |kind: &str| part(PartKind::Authorizer, "shop/idp", &format!("{{\"kind\":{kind}}}"));
    let plain = authorizer("{\"Jwt\":{}}");
    let secret = authorizer("{\"Introspection\":{\"client_secret\":\"s3cret\"}}");
    for secrets in [true, false] {
        let dir = Dir::new();
        let mut store = dir.open();
        store.secrets = secrets;
        let stored = |dir: &Dir| dir.open().load().unwrap_or_default().get(&plain.0).map(|part| part.json.clone());
        store.saved(&[plain.clone()].into_iter().collect()).await;
        assert_eq!(stored(&dir).as_ref(), Some(&plain.1.json));
        store.saved(&[secret.clone()].into_iter().collect()).await;
        assert_eq!(stored(&dir).as_ref(), Some(&secret.1.json).filter(|_| secrets));
        assert_eq!(fs::read_to_string(&store.path).unwrap().contains("s3cret"), secrets);
        store.saved(&[plain.clone()].into_iter().collect()).await;
        assert_eq!(stored(&dir).as_ref(), Some(&plain.1.json));
    }
}

#[tokio::test]
async fn the_configuration_of_another_fleet_is_removed_and_not_served() {
    let (dir, edge) = (Dir::new(), "edge".parse().unwrap());
    let store = dir.open();
    store.save_fleet(3);
    store.flush().await;
    store.saved(&world()).await;
    assert_eq!(dir.open().fleet(), Some(3));
    let moved = dir.open_in(&edge);
    assert_eq!((moved.load().is_none(), moved.fleet()), (true, None));
    assert!(!store.path.exists());
    moved.save_fleet(2);
    moved.flush().await;
    moved.saved(&world()).await;
    assert_eq!((dir.open_in(&edge).load().is_some(), dir.open_in(&edge).fleet()), (true, Some(2)));
}

#[tokio::test]
async fn a_change_is_appended_and_costs_what_it_is_long() {
    let dir = Dir::new();
    let store = dir.open();
    let mut world: Parts<Part> = (0..2000).map(|n| part(PartKind::Route, &format!("shop/r{n}"), "{}")).collect();
    store.saved(&world).await;
    let before = fs::metadata(&store.path).unwrap().len();
    world.extend([part(PartKind::Route, "shop/r7", "{\"b\":3}")]);
    world.remove(&PartName::new(PartKind::Route, "shop/r8"));
    store.saved(&world).await;
    assert!(fs::metadata(&store.path).unwrap().len() - before < 1000);
    assert_eq!(dir.open().load().unwrap_or_default(), world);
    // A store that is opened again continues after the last change.
    let again = dir.open();
    assert_eq!(again.load().unwrap_or_default(), world);
    world.extend([part(PartKind::Route, "shop/r9", "{\"b\":4}")]);
    again.saved(&world).await;
    assert_eq!(dir.open().load().unwrap_or_default(), world);
}

#[tokio::test]
async fn many_changes_become_a_snapshot_again() {
    let dir = Dir::new();
    let store = dir.open();
    let long = "x".repeat(200_000);
    for n in 0..20 {
        store
            .saved(&[part(PartKind::Route, "shop/orders", &format!("{{\"n\":\"{n}{long}\"}}"))].into_iter().collect())
            .await;
        assert!(fs::metadata(&store.path).unwrap().len() < 2 * MIN_CHANGES);
    }
    assert_eq!(dir.open().load().unwrap_or_default().len(), 1);
}

#[tokio::test]
async fn a_record_that_was_cut_leaves_the_version_before_it() {
    let dir = Dir::new();
    let store = dir.open();
    store.saved(&world()).await;
    let whole = fs::read(&store.path).unwrap();
    let mut later = world();
    later.extend([part(PartKind::Route, "shop/orders", "{\"b\":3}")]);
    store.saved(&later).await;
    let both = fs::read(&store.path).unwrap();
    let first = dir.open().load().unwrap_or_default();
    for end in [whole.len(), whole.len() + 1, whole.len() + 70, both.len() - 1] {
        fs::write(&store.path, &both[..end]).unwrap();
        let crashed = dir.open();
        let loaded = crashed.load().unwrap_or_default();
        assert_eq!(loaded.get(&PartName::new(PartKind::Route, "shop/orders")).unwrap().json.as_ref(), "{\"b\":2}");
        // What is saved next does not follow the cut record.
        crashed.saved(&later).await;
        assert_eq!(dir.open().load().unwrap_or_default(), first);
    }
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_never_served_in_part() {
    let dir = Dir::new();
    let store = dir.open();
    store.saved(&world()).await;
    let mut later = world();
    later.extend([part(PartKind::Stage, "shop/test", "{\"c\":3}")]);
    store.saved(&later).await;
    let good = fs::read(&store.path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let lying = {
        let (name, part) = part(PartKind::Route, "shop/orders", "{}");
        let upsert = vec![Part { hash: Hash::of(b"other"), ..part }];
        let version = [(name, Hash::of(b"other"))].into_iter().collect::<Parts<Hash>>().version();
        record(&Delta { base: Hash::NONE, version, upsert, remove: Vec::new() }).unwrap()
    };
    let with_magic = |record: Vec<u8>| [MAGIC, &record].concat();
    let unversioned = Delta { base: Hash::NONE, version: Hash::NONE, upsert: Vec::new(), remove: Vec::new() };
    let bad = [
        Vec::new(),
        b"{}".to_vec(),
        MAGIC.to_vec(),
        flipped(0),
        flipped(MAGIC.len() + 3),
        flipped(MAGIC.len() + 80),
        with_magic(lying),
        with_magic(record(&unversioned).unwrap()),
        with_magic([b'a'; 200].to_vec()),
    ];
    for bytes in bad {
        fs::write(&store.path, &bytes).unwrap();
        assert!(dir.open().load().unwrap_or_default().is_empty(), "{:?}", String::from_utf8_lossy(&bytes));
        assert!(store.path.with_extension("corrupt").exists());
        let again = dir.open();
        assert!(again.load().unwrap_or_default().is_empty());
        again.saved(&world()).await;
        assert!(!dir.open().load().unwrap_or_default().is_empty());
        fs::remove_file(store.path.with_extension("corrupt")).unwrap();
    }
}

#[tokio::test]
async fn damage_to_the_newest_record_costs_that_record_only() {
    let dir = Dir::new();
    let store = dir.open();
    let mut first = world();
    first.remove(&PartName::new(PartKind::Certificate, "shop/tls"));
    store.saved(&first).await;
    let mut versions = vec![first];
    let mut ends = vec![fs::read(&store.path).unwrap().len()];
    for n in 0..3 {
        let mut next = versions.last().unwrap().clone();
        next.extend([part(PartKind::Route, "shop/orders", &format!("{{\"b\":\"{n}\"}}"))]);
        store.saved(&next).await;
        versions.push(next);
        ends.push(fs::read(&store.path).unwrap().len());
    }
    let good = fs::read(&store.path).unwrap();
    let last = ends[2];
    let replaced = |from: usize, with: u8| {
        let mut bytes = good.clone();
        bytes[from..].fill(with);
        bytes
    };
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let followed_by = |tail: &[u8]| [&good[..last], tail].concat();
    let other =
        record(&Delta { base: Hash::NONE, version: Hash::NONE, upsert: Vec::new(), remove: Vec::new() }).unwrap();
    let undecodable = format!("{} 2\n[]\n", Hash::of(b"[]"));
    for (name, bytes, kept) in [
        ("zeros instead of the record", replaced(last, 0), 2),
        ("zeros in its body", replaced(last + 90, 0), 2),
        ("zeros after its first byte", replaced(last + 1, 0), 2),
        ("zeros after the last record", [good.as_slice(), &[0; 4096]].concat(), 3),
        ("one zero after the last record", [good.as_slice(), &[0]].concat(), 3),
        ("text after the last record", [good.as_slice(), b"a line\nand another\n"].concat(), 3),
        ("a bit of its checksum", flipped(last + 3), 2),
        ("a bit of its length", flipped(last + 66), 2),
        ("a bit of its body", flipped(good.len() - 5), 2),
        ("random bytes", followed_by(&[0xff; 300]), 2),
        ("a length that no file has", followed_by(format!("{} 18446744073709551615\n", Hash::NONE).as_bytes()), 2),
        ("a record of another file", followed_by(&other), 2),
        ("a record of another format", followed_by(undecodable.as_bytes()), 2),
    ] {
        fs::write(&store.path, &bytes).unwrap();
        let (again, failures) = dir.open().failures();
        assert_eq!(again.load().as_ref(), Some(&versions[kept]), "{name}");
        assert_eq!(*locked(&failures), [Operation::Read], "{name}");
        assert!(!store.path.with_extension("corrupt").exists(), "{name}");
        // What is saved next is not appended to the damage.
        again.saved(&versions[1]).await;
        assert_eq!(dir.open().load().as_ref(), Some(&versions[1]), "{name}");
    }
    // Damage before other records: which version would be the right one is not known.
    for (name, bytes) in [
        ("a bit of a record before", flipped(ends[1] + 90)),
        ("a bit of a checksum before", flipped(ends[1] + 3)),
        ("zeros in the middle", [&good[..ends[0]], &vec![0; ends[1] - ends[0]], &good[ends[1]..]].concat()),
    ] {
        fs::write(&store.path, &bytes).unwrap();
        let (again, failures) = dir.open().failures();
        assert_eq!((again.load(), locked(&failures).as_slice()), (None, &[Operation::Read][..]), "{name}");
        fs::remove_file(store.path.with_extension("corrupt")).unwrap();
    }
}

#[tokio::test]
async fn neither_an_acknowledgement_nor_the_next_change_waits_for_the_disk() {
    let dir = Dir::new();
    let store = dir.open();
    let applied = Arc::new(AtomicU32::new(0));
    let count = applied.clone();
    let sink = Sink {
        apply: Box::new(move |_, _, _| {
            count.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        }),
        set_fleet: Box::new(|_| {}),
        set_connected: Box::new(|_| {}),
        rejected: Box::new(|| {}),
        access_reviews: AccessReviews::default(),
        key_uses: KeyUses::default(),
    };
    let mut subscriber = Subscriber::start("p".into(), FleetName::default(), sink, Some(store.clone()));
    {
        // No write ends as long as this is held, as on a disk that does not respond.
        let _slow = locked(&store.log);
        for n in 0..20 {
            let parts: Parts<Part> =
                [part(PartKind::Route, "shop/orders", &format!("{{\"n\":{n}}}"))].into_iter().collect();
            let upsert = parts.iter().map(|(_, part)| part.clone()).collect();
            let change = Delta { base: Hash::NONE, version: parts.version(), upsert, remove: Vec::new() };
            let reply = subscriber.on_frame(Down::Delta(change));
            assert!(matches!(reply, Some(Up::Ack(ack)) if ack.outcome == Outcome::Applied), "change {n}");
            assert!(subscriber.on_frame(Down::Fleet { proxies: n + 1 }).is_none());
        }
        assert_eq!(applied.load(Ordering::Relaxed), 20);
        assert!(!store.path.exists());
    }
    store.flush().await;
    let again = dir.open();
    assert_eq!(again.load().map(|parts| parts.version()), Some(subscriber.version()));
    assert_eq!(again.fleet(), Some(20), "what is newest is stored");
}

#[tokio::test]
async fn a_failed_write_is_counted_and_the_error_says_write() {
    let dir = Dir::new();
    let (store, failures) = dir.open().failures();
    fs::create_dir_all(store.path.with_extension("new")).unwrap();
    store.saved(&world()).await;
    assert_eq!(*locked(&failures), [Operation::Write]);
    let error = replace(&store.path, b"").unwrap_err();
    assert!(error.to_string().contains("write"), "{error}");
    let error = append(&dir.0.join("absent"), b"").unwrap_err();
    assert!(error.to_string().contains("write"), "{error}");
    fs::create_dir_all(store.path.with_file_name("fleet.new")).unwrap();
    store.save_fleet(2);
    store.flush().await;
    assert_eq!(locked(&failures).len(), 2);
    fs::remove_dir(store.path.with_extension("new")).unwrap();
    store.saved(&world()).await;
    assert_eq!((dir.open().load().is_some(), locked(&failures).len()), (true, 2));
}

#[tokio::test]
async fn an_empty_configuration_and_the_size_of_the_fleet_are_remembered() {
    let dir = Dir::new();
    let store = dir.open();
    assert!(store.load().is_none() && store.fleet().is_none());
    store.saved(&Parts::new()).await;
    store.save_fleet(3);
    store.flush().await;
    let again = dir.open();
    assert!(again.load().is_some_and(|parts| parts.is_empty()));
    assert_eq!(again.fleet(), Some(3));
    for bad in ["", "0", "many"] {
        fs::write(dir.0.join(FLEET), bad).unwrap();
        assert_eq!(again.fleet(), None);
    }
}

#[test]
fn what_is_newer_replaces_what_waits() {
    let dir = Dir::new();
    let store = dir.open();
    let one: Parts<Part> = [part(PartKind::Route, "n/a", "1")].into_iter().collect();
    let two: Parts<Part> = [part(PartKind::Route, "n/a", "2")].into_iter().collect();
    *locked(&store.queue) = Queue { next: Some(one), writing: true, ..Queue::default() };
    locked(&store.queue).next = Some(two.clone());
    store.write();
    assert_eq!(dir.open().load().unwrap_or_default(), two);
    assert!(!locked(&store.queue).writing);
}

#[test]
fn memory_volumes_are_distinguished_from_disks() {
    let dir = Dir::new();
    fs::create_dir_all(&dir.0).unwrap();
    let real = fs::canonicalize(&dir.0).unwrap();
    let root = "overlay / overlay rw 0 0\n";
    let at = |kind: &str| format!("{root}x {} {kind} rw 0 0\n", real.display());
    assert!(!in_memory(&dir.0, root));
    assert!(in_memory(&dir.0, &at("tmpfs")));
    assert!(!in_memory(&dir.0, &at("ext4")));
    assert!(!in_memory(&dir.0, &format!("{}{}", at("tmpfs"), at("ext4"))));
    assert!(!in_memory(&dir.0, &format!("{root}x {}-other tmpfs rw 0 0\n", real.display())));
}
