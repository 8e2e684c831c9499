//! The fuzz targets over their committed corpus and a fixed number of mutations of it. The mutations depend only on a seed, so a
//! failure can be reproduced. `FUZZ_ROUNDS=1000000 FUZZ_SEED=7` does more, `make fuzz` searches with coverage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use sluice_proxy::config::store::Store;
use sluice_proxy::internals;
use sluice_wire::codec::encode;
use sluice_wire::*;

use crate::harness::*;

#[path = "../fuzz/targets.rs"]
mod targets;

const ROUNDS: u64 = 3_000;

#[test]
fn paths_have_one_form_or_none() {
    let tokens = ["/", "%2e", "%2E%2e", "..", "%25", "%2F", "%5c", ";", "//", "%", "\u{fc}", "?", "\0"];
    assert_eq!(failures("path", targets::path, &tokens, Vec::new()), [""; 0]);
}

#[test]
fn no_client_chooses_its_address_behind_a_trusted_proxy() {
    let tokens =
        [",", "for=", ";", "\"", "\\", "=", "9.9.9.9", "10.9.9.9", "[::1]", ":", " ", "\t", "by=", "unknown", "_x"];
    assert_eq!(failures("source", targets::source, &tokens, Vec::new()), [""; 0]);
}

#[test]
fn what_a_certificate_states_can_be_a_header() {
    let names = internals::certificate_fields(include_bytes!("../fuzz/corpus/certificate/names")).unwrap();
    assert!(names.iter().any(|(_, text)| text.contains("O=Zo\\C3\\AB\\, Inc. \\<a\\>")), "{names:?}");
    let tokens =
        ["\0", "\n", ",", "\u{13}", "\u{c}", "\u{1e}", "\u{30}", "\u{31}", "\u{55}\u{4}\u{3}", "\u{6}", "+", "=", " "];
    assert_eq!(failures("certificate", targets::certificate, &tokens, Vec::new()), [""; 0]);
}

#[test]
fn policies_have_one_reading_and_a_deny_is_never_lost() {
    let valid = include_str!("../fuzz/corpus/policy/conditions");
    assert_eq!(targets::verdict(valid), Some('+'), "the target would prove nothing");
    let tokens = [
        "Not",
        "Allow",
        "Deny",
        "\"*\"",
        "IfExists",
        "ForAllValues:",
        "${aws:UserAgent}",
        "*",
        "?",
        "[",
        "]",
        "{",
        "}",
        ",",
    ];
    assert_eq!(failures("policy", targets::policy, &tokens, Vec::new()), [""; 0]);
}

#[test]
fn only_the_signed_token_is_accepted() {
    assert!(targets::accepts(include_bytes!("../fuzz/corpus/token/valid")), "the target would prove nothing");
    let tokens = ["Bearer ", "bearer  ", ".", "..", "=", "eyJhbGciOiJub25lIn0", "e30", "AAAA", "-_", " ", ","];
    assert_eq!(failures("token", targets::token, &tokens, Vec::new()), [""; 0]);
}

#[test]
fn no_place_of_a_token_is_forwarded_beside_a_verified_one() {
    let tokens = [
        "access_token=",
        "%41ccess_token",
        "access%5ftoken",
        "session=",
        " session =",
        "bearer.",
        "BEARER.",
        "&",
        ";",
        ",",
        "\n",
        "=",
        "+",
        "%",
        "\"",
        "a=b",
    ];
    assert_eq!(failures("credential", targets::credential, &tokens, Vec::new()), [""; 0]);
}

#[test]
fn only_a_response_for_an_active_token_makes_it_accepted() {
    for valid in ["active", "client"] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/introspection/");
        let seed = std::fs::read(format!("{folder}{valid}")).unwrap();
        assert!(targets::introspected(&seed), "the target would prove nothing");
    }
    let tokens = [
        "true",
        "false",
        "\"active\":",
        "\"aud\":",
        "null",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\\u0061",
        "1e999",
        "-1",
        "\"",
        ":",
    ];
    assert_eq!(failures("introspection", targets::introspection, &tokens, Vec::new()), [""; 0]);
}

#[test]
fn only_what_was_signed_has_a_valid_signature() {
    for valid in ["header", "presigned"] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/signature/");
        let seed = std::fs::read(format!("{folder}{valid}")).unwrap();
        assert!(targets::is_signed(&seed), "the target would prove nothing");
    }
    let tokens = [
        "/",
        "//",
        "/./",
        "/../",
        "%2F",
        "%41",
        "A",
        "+",
        "%20",
        "&",
        "=",
        "&a=b",
        "\nhost: other.example",
        "\nx-amz-a: 1",
        ";",
        ",",
        " ",
        "\t",
        "X-Amz-Signature=",
        "UNSIGNED-PAYLOAD",
        "\nx-amz-content-sha256: ",
    ];
    assert_eq!(failures("signature", targets::signature, &tokens, Vec::new()), [""; 0]);
}

#[test]
fn templates_survive_printing() {
    let tokens = ["${", "}", "$", "$$", "context.", "request.path.", "claims.", "\r\n", "\t"];
    assert_eq!(failures("template", targets::template, &tokens, Vec::new()), [""; 0]);
}

#[test]
fn frames_are_decoded_alike_however_they_are_cut() {
    let tokens = ["\0\0\0\u{2}{}", "\0\0\0\0", "null", "{", "}", "\"", "[]", "\\u0000", "1e999"];
    let (one, two) = versions();
    let parts = one.iter().map(|(name, part)| (name.clone(), part.hash)).collect();
    let hello = Hello { parts, ..Hello::new("one", "test") };
    let difference = Delta {
        base: one.version(),
        version: two.version(),
        upsert: two.iter().map(|(_, part)| part.clone()).collect(),
        remove: vec![stage_name()],
    };
    let diagnostics = vec![Diagnostic { object: ObjectRef::new("ApiRoute", "shop", "r"), message: "odd".into() }];
    let ack = Ack { version: two.version(), outcome: Outcome::Rejected { why: "no".into() }, diagnostics };
    let principal = PartName::of_object(PartKind::Principal, "shop", "ann");
    let used = Used { keys: vec![KeyUse { principal, id: "AKIDEXAMPLE000000001".into(), at: 1_700_000_040 }] };
    let up = [encode(&Up::Hello(hello)), encode(&Up::Ack(ack)), encode(&Up::Pong), encode(&Up::Used(used))];
    let down = [encode(&Down::Delta(difference)), encode(&Down::Fleet { proxies: 3 }), encode(&Down::Ping)];
    let up = up.into_iter().flat_map(Result::unwrap).collect();
    let down = down.into_iter().flat_map(Result::unwrap).collect();
    let seeds = vec![("valid-up", up), ("valid-down", down)];
    assert_eq!(failures("codec", targets::codec, &tokens, seeds), [""; 0]);
}

#[test]
fn a_damaged_state_file_yields_no_unverified_part() {
    let tokens = ["\n", " ", "0", "{", "\"upsert\":[]", "18446744073709551615"];
    let folder = std::env::temp_dir().join(format!("sluice-fuzz-seed-{}", std::process::id()));
    let store = Store::open(&folder, &sluice_wire::FleetName::default()).unwrap();
    let (one, two) = versions();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(internals::save_all(&store, &[one, two.clone()]));
    let seed = std::fs::read(folder.join("configuration.state")).unwrap();
    assert_eq!(
        Store::open(&folder, &sluice_wire::FleetName::default()).unwrap().load().map(|parts| parts.version()),
        Some(two.version())
    );
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!(failures("state", targets::state, &tokens, vec![("valid", seed)]), [""; 0]);
}

/// Two versions of a small configuration.
fn versions() -> (Parts<Part>, Parts<Part>) {
    let parts = |list: Vec<(PartName, PartBody)>| {
        let mut parts = Parts::new();
        parts.extend(list.into_iter().map(|(name, body)| (name.clone(), Part::new(name, &body))));
        parts
    };
    let rules = |path| vec![rule("r", "GET", path, policy(mock("hello")))];
    let one = parts(vec![stage_part(stage()), route("r", rules("/a"))]);
    (one, parts(vec![stage_part(stage()), route("r", rules("/a/{b}")), upstream(&[([192, 0, 2, 1], 80).into()])]))
}

/// The inputs for which a target fails: it runs over its corpus, then over mutations of it. `valid` are seeds that the program itself
/// writes: they are part of the committed corpus, and `UPDATE_GOLDEN=1` writes them when the format has changed.
fn failures(name: &str, target: fn(&[u8]), tokens: &[&str], valid: Vec<(&str, Vec<u8>)>) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    for (seed, bytes) in valid {
        let file = folder.join(seed);
        if sluice_kit::golden::updating() {
            std::fs::write(&file, &bytes).unwrap();
        }
        let same = std::fs::read(&file).unwrap_or_default() == bytes;
        assert!(same, "{} is of another format; UPDATE_GOLDEN=1 writes it", file.display());
    }
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    let mut failures: Vec<String> = files
        .iter()
        .zip(&corpus)
        .filter_map(|(file, input)| failure(target, input, &file.display().to_string()))
        .collect();
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seed, rounds) = (number("FUZZ_SEED", 1), number("FUZZ_ROUNDS", ROUNDS));
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for round in 0..rounds {
        let mut input = random.pick(&corpus).clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &corpus, tokens, &mut random);
        }
        failures.extend(failure(target, &input, &format!("mutation {round} of seed {seed}")));
        if !failures.is_empty() {
            return failures;
        }
    }
    failures
}

fn failure(target: fn(&[u8]), input: &[u8], origin: &str) -> Option<String> {
    catch_unwind(AssertUnwindSafe(|| target(input))).err()?;
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-failure");
    std::fs::write(&file, input).unwrap();
    let bytes = input.escape_ascii().to_string();
    Some(format!(
        "{origin} fails with the panic above; its bytes are in {}; add them to the corpus: {bytes:?}",
        file.display()
    ))
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], tokens: &[&str], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + 1 + random.below(16)).min(input.len());
    match random.below(7) {
        0 => input.truncate(at),
        1 => drop(input.drain(at.min(end)..end)),
        2 => drop(input.splice(at..at, random.pick(tokens).bytes())),
        3 => drop(input.splice(at.min(end)..end, random.pick(tokens).bytes())),
        4 => {
            let other = random.pick(corpus);
            let from = random.below(other.len() + 1);
            let to = (from + random.below(64)).min(other.len());
            drop(input.splice(at..at, other[from..to].iter().copied()));
        }
        5 => input.insert(at, random.byte()),
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

/// xorshift64*: no dependency, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next() >> 56).unwrap()
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}
