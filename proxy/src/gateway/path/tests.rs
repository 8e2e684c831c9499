//! Canonical paths, and the readings of paths that are not plain.

use proptest::prelude::*;

use super::*;
use crate::gateway::readings::readings;
use crate::gateway::stage_path::{Reduced, StagePath};

/// The canonical form under a policy that rejects everything that is unusual.
fn strict(path: &str) -> Option<String> {
    canonical(path).ok().filter(|path| path.traits.is_plain()).map(|path| path.text.into_owned())
}

#[test]
fn a_path_has_one_canonical_form_or_is_rejected() {
    let good = [
        ("/", "/"),
        ("/orders/7", "/orders/7"),
        ("/%61dmin", "/admin"),
        ("/a%2Eb", "/a.b"),
        ("/a%20b/%c3%a9", "/a%20b/%C3%A9"),
        ("/100%25", "/100%25"),
        ("/a/", "/a/"),
        ("/...", "/..."),
        ("/a@b:c", "/a@b:c"),
    ];
    for (path, expected) in good {
        assert_eq!(strict(path).as_deref(), Some(expected));
    }
    let bad = [
        "",
        "*",
        "a",
        "//",
        "//a",
        "/a//b",
        "/a//",
        "/.",
        "/..",
        "/a/../b",
        "/a/./b",
        "/a/..",
        "/%2e%2e/a",
        "/a/.%2e",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00",
        "/a%0d%0a",
        "/a%7f",
        "/a;b",
        "/a%3bb",
        "/a%252e",
        "/x/%25%32e%25%32e/admin",
        "/x/%252%65%252%65/admin",
        "/x/%25%32f",
        "/%25%2541",
        "/a%",
        "/a%2",
        "/a%zz",
        "/é",
        "/a|b",
        "/{a}",
        "/a\"b",
        "/a b",
    ];
    for path in bad {
        assert_eq!(strict(path), None, "{path}");
    }
}

#[test]
fn traits_name_what_is_unusual() {
    let slash = Traits::ENCODED_SLASH;
    let both = |one: Traits, mut two: Traits| {
        two.add(one);
        two
    };
    for (path, text, traits) in [
        ("/a%2fb", "/a%2Fb", slash),
        ("/a%5cb", "/a%5Cb", slash),
        ("/a\\b", "/a\\b", both(slash, Traits::CHARACTER)),
        ("/a%252e", "/a%252e", Traits::DOUBLE_ENCODING),
        ("/x/%25%32f", "/x/%252f", Traits::DOUBLE_ENCODING),
        ("/a;b", "/a;b", Traits::SEMICOLON),
        ("/a%3bb/;", "/a%3Bb/;", Traits::SEMICOLON),
        ("/;x/a", "/;x/a", both(Traits::SEMICOLON, Traits::EMPTY_SEGMENT)),
        ("/%3bx/a", "/%3Bx/a", both(Traits::SEMICOLON, Traits::EMPTY_SEGMENT)),
        ("//", "//", Traits::EMPTY_SEGMENT),
        ("/a//b", "/a//b", Traits::EMPTY_SEGMENT),
        ("/é", "/é", Traits::CHARACTER),
        ("/a|\"[b]^{c}", "/a|\"[b]^{c}", Traits::CHARACTER),
    ] {
        let found = canonical(path).unwrap();
        assert_eq!((found.text.as_ref(), found.traits), (text, traits), "{path}");
    }
    for path in [
        "/a%2f..%2fb",
        "/..%5cb",
        "/a/..\\b",
        "/..;/b",
        "/a/..;x=1",
        "/a/.%3bx/b",
        "/%2e%2e%2fb",
        "/a%2f.",
        "/x%c0%afadmin",
        "/x%C1%9C",
        "/%e0%80%af",
        "/%f0%80%80%af",
        "/a b",
        "/a%2fb%",
        "/a;%zz",
        "/a//%00",
    ] {
        assert!(canonical(path).is_err(), "{path}");
    }
}

#[test]
fn a_path_is_matched_without_empty_segments_and_parameters() {
    for (path, text, collapsed, dropped) in [
        ("/", "/", "/", "/"),
        ("//", "/", "/", "//"),
        ("/a//b", "/a/b", "/a/b", "/a//b"),
        ("//a///b//", "/a/b/", "/a/b/", "//a///b//"),
        ("/a;x=1/b;y", "/a/b", "/a;x=1/b;y", "/a/b"),
        ("/;x/a", "/a", "/a", "//a"),
        ("/a/;x", "/a/", "/a/", "/a/"),
        ("/a%3Bx/b", "/a/b", "/a%3Bx/b", "/a/b"),
    ] {
        assert_eq!(Reduced::new(path).text(), text, "{path}");
        assert_eq!(collapse(path), collapsed, "{path}");
        assert_eq!(drop_parameters(path), dropped, "{path}");
    }
}

#[test]
fn captures_are_those_of_the_path_that_is_forwarded() {
    for (whole, base, path, matched, range, captured) in [
        ("/v1//a;x//b", "/v1", "/a;x//b", "/a/b", (1, 4), "a;x//b"),
        ("/v1//a;x//b", "/v1", "/a;x//b", "/a/b", (1, 2), "a;x"),
        ("/v1//a;x//b", "/v1", "/a;x//b", "/a/b", (3, 4), "b"),
        ("//v1;y/a/", "/v1", "/a/", "/a/", (1, 3), "a/"),
        ("/a//", "", "/a//", "/a/", (1, 3), "a//"),
        ("/a//", "", "/a//", "/a/", (1, 2), "a"),
        ("/v1//", "/v1", "/", "/", (0, 1), "/"),
        ("//v1", "/v1", "/", "/", (0, 0), ""),
    ] {
        let reduced = Reduced::new(whole);
        let at = StagePath::new(whole, Some(&reduced), base).unwrap();
        assert_eq!((at.path, at.matched), (path, matched), "{whole}");
        let capture = at.captures(std::iter::once(range).collect())[0];
        assert_eq!(crate::gateway::router::slice(at.path, capture), captured, "{whole} {range:?}");
    }
}

#[test]
fn readings_are_what_other_programs_find() {
    let found = readings("/a%2Fb").unwrap();
    assert_eq!(found, ["/a/b"]);
    let found = readings("/x%5Ca%2F").unwrap();
    assert_eq!(found, ["/x/a", "/x/a/", "/x%5Ca", "/x%5Ca/"]);
    for (path, reading) in [
        ("/%2561dmin", "/admin"),
        ("/%252561dmin", "/admin"),
        ("/x%252Fadmin", "/x/admin"),
        ("/%2Fadmin", "/admin"),
        ("/admin%252F", "/admin"),
        ("/admin%253Bx", "/admin"),
        ("/admin%252Fa%253Fq", "/admin/a"),
        ("/admin%2F%23", "/admin"),
    ] {
        assert!(readings(path).unwrap().iter().any(|found| found == reading), "{path}: {:?}", readings(path));
    }
    for path in ["/%252e%252e/a", "/a%252F..%252Fb", "/a%252F%252e%252e", "/a%2500", "/a%252525252F", "/..%253Bx"] {
        assert!(readings(path).is_err(), "{path}");
    }
}

#[test]
fn texts_whose_concatenation_is_ambiguous_are_rejected() {
    for (path, joints, expected) in [
        ("/a/b", vec![2], true),
        ("/a/./b", vec![3], false),
        ("/a/..", vec![4], false),
        ("/a/..%2Fb", vec![4], false),
        ("/100%25/2e", vec![4, 7], true),
        ("/a%252e", vec![5], false),
        ("/a%252e", vec![6], false),
        ("/a%252e", vec![2], true),
        ("/a%252e", vec![7], true),
    ] {
        assert_eq!(joins(path, &joints), expected, "{path} {joints:?}");
    }
}

#[test]
fn static_segments_are_compared_decoded() {
    assert_eq!(comparable("a%40b"), "a@b");
    assert_eq!(comparable("a%20b"), "a%20b");
}

#[test]
fn queries_are_decoded_for_comparison() {
    let pairs: Vec<_> = query_pairs("a=1&b=x+y%21&&c").map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
    let expected = [("a", "1"), ("b", "x y!"), ("c", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(pairs, expected);
}

/// Paths of escapes, parts of escapes, and escapes of those.
fn of_escapes() -> impl Strategy<Value = String> {
    let byte =
        prop_oneof![Just(b'%'), Just(b'.'), Just(b'/'), Just(b'2'), Just(b'5'), Just(b'e'), Just(b'F'), any::<u8>()];
    let piece = prop_oneof![
        byte.clone().prop_map(|byte| format!("%{byte:02x}")),
        byte.clone().prop_map(|byte| format!("%{byte:02X}")),
        byte.clone().prop_map(|byte| format!("%25{byte:02x}")),
        byte.prop_map(|byte| char::from(byte & 0x7f).to_string()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn no_canonical_form_can_be_decoded_again(path in of_escapes()) {
        if let Some(first) = strict(&path) {
            prop_assert_eq!(strict(&first), Some(first.clone()));
            let again = |at: usize| encoded_twice(first.as_bytes(), at);
            prop_assert!(!(0..first.len()).any(again), "{}", first);
            prop_assert!(joins(&first, &[]), "{}", first);
        }
    }

    #[test]
    fn a_path_that_is_not_plain_has_one_canonical_form_too(path in of_escapes()) {
        if let Ok(first) = canonical(&path) {
            let again = canonical(&first.text).unwrap();
            prop_assert_eq!((again.text, again.traits), (first.text.clone(), first.traits));
            let reduced = Reduced::new(&first.text);
            let twice = Reduced::new(reduced.text());
            prop_assert_eq!(twice.text(), reduced.text());
            let collapsed = collapse(&first.text);
            let of_collapsed = Reduced::new(&collapsed);
            prop_assert_eq!(of_collapsed.text(), reduced.text());
        }
    }

    #[test]
    fn the_canonical_form_of_a_canonical_form_is_itself(path in "/[a-zA-Z0-9%./;~@\\\\-]{0,40}") {
        if let Some(first) = strict(&path) {
            prop_assert_eq!(strict(&first), Some(first.clone()));
            prop_assert!(!first.split('/').any(|s| s == "." || s == ".."));
        }
    }
}
