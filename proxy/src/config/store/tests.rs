//! What survives a restart, a crash in the middle of a write, and a damaged disk.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

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
        store.save(&world()).await;
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
async fn the_configuration_of_another_fleet_is_removed_and_not_served() {
    let (dir, edge) = (Dir::new(), "edge".parse().unwrap());
    let store = dir.open();
    store.save_fleet(3).await;
    store.save(&world()).await;
    assert_eq!(dir.open().fleet(), Some(3));
    let moved = dir.open_in(&edge);
    assert_eq!((moved.load().is_none(), moved.fleet()), (true, None));
    assert!(!store.path.exists());
    moved.save_fleet(2).await;
    moved.save(&world()).await;
    assert_eq!((dir.open_in(&edge).load().is_some(), dir.open_in(&edge).fleet()), (true, Some(2)));
}

#[tokio::test]
async fn a_change_is_appended_and_costs_what_it_is_long() {
    let dir = Dir::new();
    let store = dir.open();
    let mut world: Parts<Part> = (0..2000).map(|n| part(PartKind::Route, &format!("shop/r{n}"), "{}")).collect();
    store.save(&world).await;
    let before = fs::metadata(&store.path).unwrap().len();
    world.extend([part(PartKind::Route, "shop/r7", "{\"b\":3}")]);
    world.remove(&PartName::new(PartKind::Route, "shop/r8"));
    store.save(&world).await;
    assert!(fs::metadata(&store.path).unwrap().len() - before < 1000);
    assert_eq!(dir.open().load().unwrap_or_default(), world);
    // A store that is opened again continues after the last change.
    let again = dir.open();
    assert_eq!(again.load().unwrap_or_default(), world);
    world.extend([part(PartKind::Route, "shop/r9", "{\"b\":4}")]);
    again.save(&world).await;
    assert_eq!(dir.open().load().unwrap_or_default(), world);
}

#[tokio::test]
async fn many_changes_become_a_snapshot_again() {
    let dir = Dir::new();
    let store = dir.open();
    let long = "x".repeat(200_000);
    for n in 0..20 {
        store
            .save(&[part(PartKind::Route, "shop/orders", &format!("{{\"n\":\"{n}{long}\"}}"))].into_iter().collect())
            .await;
        assert!(fs::metadata(&store.path).unwrap().len() < 2 * MIN_CHANGES);
    }
    assert_eq!(dir.open().load().unwrap_or_default().len(), 1);
}

#[tokio::test]
async fn a_record_that_was_cut_leaves_the_version_before_it() {
    let dir = Dir::new();
    let store = dir.open();
    store.save(&world()).await;
    let whole = fs::read(&store.path).unwrap();
    let mut later = world();
    later.extend([part(PartKind::Route, "shop/orders", "{\"b\":3}")]);
    store.save(&later).await;
    let both = fs::read(&store.path).unwrap();
    let first = dir.open().load().unwrap_or_default();
    for end in [whole.len(), whole.len() + 1, whole.len() + 70, both.len() - 1] {
        fs::write(&store.path, &both[..end]).unwrap();
        let crashed = dir.open();
        let loaded = crashed.load().unwrap_or_default();
        assert_eq!(loaded.get(&PartName::new(PartKind::Route, "shop/orders")).unwrap().json.as_ref(), "{\"b\":2}");
        // What is saved next does not follow the cut record.
        crashed.save(&later).await;
        assert_eq!(dir.open().load().unwrap_or_default(), first);
    }
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_never_served_in_part() {
    let dir = Dir::new();
    let store = dir.open();
    store.save(&world()).await;
    let mut later = world();
    later.extend([part(PartKind::Stage, "shop/test", "{\"c\":3}")]);
    store.save(&later).await;
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
        flipped(good.len() - 5),
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
        again.save(&world()).await;
        assert!(!dir.open().load().unwrap_or_default().is_empty());
        fs::remove_file(store.path.with_extension("corrupt")).unwrap();
    }
}

#[tokio::test]
async fn an_empty_configuration_and_the_size_of_the_fleet_are_remembered() {
    let dir = Dir::new();
    let store = dir.open();
    assert!(store.load().is_none() && store.fleet().is_none());
    store.save(&Parts::new()).await;
    store.save_fleet(3).await;
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
    *locked(&store.queue) = Queue { next: Some(one), writing: true };
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
