use sluice_session::Session as Issued;
use sluice_wire::{ObjectRef, PartKind, SessionDayKey};

use super::*;

/// 2026-11-28T00:30:00Z
const NOW: u64 = 1_795_825_800;
const DAY: &str = "20261128";
const BEFORE: &str = "20261127";
const ID: &str = "SLTEAAAABBBBCCCCDDDD";

fn at(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW.saturating_add_signed(seconds))
}

fn key(date: &str) -> SessionKey {
    SessionKey::derive(b"seed", date)
}

fn part(arn: &str) -> PrincipalPart {
    let days = [DAY, BEFORE];
    let day = |date: &str| SessionDayKey { date: date.into(), key: STANDARD.encode(key(date).to_bytes()) };
    PrincipalPart {
        object: ObjectRef::new("Principal", "shop", "reporting"),
        account: "000000000000".into(),
        arn: arn.into(),
        tags: Default::default(),
        authorizers: vec![PartName::of_object(PartKind::Authorizer, "shop", "iam")],
        keys: Vec::new(),
        session_keys: days.map(day).into(),
        policies: Vec::new(),
        invalid: None,
    }
}

fn role() -> Role {
    let part = part("arn:aws:iam::000000000000:role/team/reporting");
    let keys = [("aws:userid", "shop/reporting"), ("aws:principaltag/team", "a")];
    let keys = keys.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let policies = CallerPolicies { keys: Arc::new(keys), ..CallerPolicies::default() };
    Role::compile(&part, Arc::new(policies), part.authorizers.as_slice().into(), Arc::default()).unwrap()
}

fn issued(name: &str, lifetime_s: u64) -> Issued {
    issued_at(NOW, name, lifetime_s)
}

fn issued_at(issued: u64, name: &str, lifetime_s: u64) -> Issued {
    let secret_access_key = "wJalrXUtnFEMI".to_owned();
    let expires = issued + lifetime_s;
    Issued { access_key_id: ID.into(), secret_access_key, name: name.into(), issued, expires }
}

fn open(role: &Role, token: &str, id: &str, now: SystemTime) -> Result<Arc<Session>, SessionError> {
    role.session(token, &Sealed::parse(token).unwrap(), id, now)
}

#[test]
fn a_session_has_the_names_of_its_role_and_its_own() {
    let role = role();
    let token = issued("nightly", 3_600).seal("shop/reporting", DAY, &key(DAY)).unwrap();
    let session = open(&role, &token, ID, at(0)).unwrap();
    let identity = &session.identity;
    let arn = "arn:aws:sts::000000000000:assumed-role/reporting/nightly";
    assert_eq!(identity.id.as_deref(), Some(arn));
    assert_eq!(identity.attribute("caller").as_deref(), Some("shop/reporting:nightly"));
    assert_eq!(identity.attribute("accessKey").as_deref(), Some(ID));
    let policies = identity.policies.as_ref().unwrap();
    let name = policies.name.as_ref().unwrap();
    assert_eq!(name.role_arn.as_deref(), Some("arn:aws:iam::000000000000:role/team/reporting"));
    for (key, value) in [
        ("aws:userid", "shop/reporting:nightly"),
        ("aws:principaltag/team", "a"),
        ("aws:tokenissuetime", &*NOW.to_string()),
    ] {
        let of_session = policies.of_session.iter().find(|(known, _)| *known == key).map(|(_, value)| value);
        assert_eq!(of_session.or_else(|| policies.keys.get(key)).map(|value| &**value), Some(value), "{key}");
    }
    let other = issued("weekly", 3_600).seal("shop/reporting", DAY, &key(DAY)).unwrap();
    let other = open(&role, &other, ID, at(0)).unwrap();
    assert_ne!(identity.cache_identity, other.identity.cache_identity);
}

#[test]
fn a_session_is_valid_with_its_own_id_until_it_ends_also_when_it_is_remembered() {
    let role = role();
    let sealed_on = |days: i64, with: &SessionKey| {
        let issued = NOW.saturating_add_signed(days * 86_400);
        issued_at(issued, "nightly", 3_600).seal("shop/reporting", &day(issued), with).unwrap()
    };
    let seal = |date: &str, with: &SessionKey| issued("nightly", 3_600).seal("shop/reporting", date, with).unwrap();
    let today = sealed_on(0, &key(DAY));
    // Half an hour before midnight, for two hours.
    let before_midnight =
        issued_at(NOW - 3_600, "nightly", 7_200).seal("shop/reporting", BEFORE, &key(BEFORE)).unwrap();
    for _ in 0..2 {
        for (token, id, now, expected) in [
            (&today, ID, at(0), None),
            (&before_midnight, ID, at(0), None),
            // The key of a day opens no session of another one.
            (&seal(BEFORE, &key(BEFORE)), ID, at(0), Some(SessionError::Invalid)),
            (&today, ID, at(3_599), None),
            (&today, ID, at(3_600), Some(SessionError::Expired)),
            (&today, "SLTEOTHER", at(0), Some(SessionError::Invalid)),
            (&today, "", at(0), Some(SessionError::Invalid)),
            (&seal(DAY, &key(BEFORE)), ID, at(0), Some(SessionError::Invalid)),
            (&sealed_on(-2, &key("20261126")), ID, at(0), Some(SessionError::Expired)),
            (&sealed_on(1, &key("20261129")), ID, at(0), Some(SessionError::NoKey)),
            (&sealed_on(2, &key("20261130")), ID, at(0), Some(SessionError::Invalid)),
            (&seal("99991231", &key(DAY)), ID, at(0), Some(SessionError::Invalid)),
        ] {
            assert_eq!(open(&role, token, id, now).err(), expected, "{id} {now:?}");
        }
    }
}

#[test]
fn the_number_of_remembered_sessions_is_limited_and_the_others_are_valid_as_well() {
    let role = role();
    let token =
        |at: usize, lifetime_s| issued(&format!("n{at}"), lifetime_s).seal("shop/reporting", DAY, &key(DAY)).unwrap();
    for at_ in 0..MAX_SESSIONS + 8 {
        assert!(open(&role, &token(at_, 60), ID, at(0)).is_ok());
    }
    let sessions_of = |role: &Role| role.sessions.read().unwrap().len();
    assert_eq!(sessions_of(&role), MAX_SESSIONS);
    assert_eq!(role.of_all.load(Ordering::Relaxed), MAX_SESSIONS);
    assert!(open(&role, &token(0, 3_600), ID, at(120)).is_ok());
    assert_eq!((sessions_of(&role), role.of_all.load(Ordering::Relaxed)), (1, 1), "those that have ended make place");
    // Those of all roles.
    let of_all = role.of_all.clone();
    of_all.store(MAX_OF_ALL, Ordering::Relaxed);
    assert!(open(&role, &token(1, 3_600), ID, at(120)).is_ok());
    assert!(open(&role, &token(2, 3_600), ID, at(121)).is_ok());
    assert_eq!(sessions_of(&role), 1);
    of_all.store(1, Ordering::Relaxed);
    assert!(open(&role, &token(2, 3_600), ID, at(131)).is_ok());
    assert_eq!(sessions_of(&role), 2);
    drop(role);
    assert_eq!(of_all.load(Ordering::Relaxed), 0);
}

#[test]
fn only_roles_have_session_keys_and_those_are_valid() {
    let compile = |part: &PrincipalPart| Role::compile(part, Arc::default(), Arc::default(), Arc::default()).err();
    let valid = part("arn:aws:iam::000000000000:role/a");
    assert!(compile(&valid).is_none());
    assert!(compile(&part("arn:aws:iam::000000000000:user/a")).is_some());
    let mut short = valid.clone();
    short.session_keys[0].key = "c2hvcnQ=".into();
    assert!(compile(&short).is_some());
}
