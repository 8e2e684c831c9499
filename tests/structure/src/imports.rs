//! Finds the modules that a file names: in `use` and `pub use` trees, and in paths inside of code.

use crate::tokens::Token;

/// A path as it is written, without generic arguments, and its line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// Every path in a file that has more than one segment.
pub(crate) fn of(tokens: &[Token]) -> Vec<Import> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = at.checked_sub(1).map_or("", |at| tokens[at].text.as_str());
        if tokens[at].text == "use" && matches!(before, "" | ";" | "}" | "{" | "]" | ")" | "pub") {
            at = tree(tokens, at + 1, &[], &mut found);
        } else if is_name(&tokens[at].text) && before != "::" {
            at = path(tokens, at, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphabetic())
}

fn text(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| token.text.as_str())
}

/// `a::b::c` in code.
fn path(tokens: &[Token], start: usize, found: &mut Vec<Import>) -> usize {
    let mut segments = vec![tokens[start].text.clone()];
    let mut at = start + 1;
    while text(tokens, at) == "::" && is_name(text(tokens, at + 1)) {
        segments.push(tokens[at + 1].text.clone());
        at += 2;
    }
    if segments.len() > 1 {
        found.push(Import { path: segments, line: tokens[start].line });
    }
    at
}

/// One branch of a `use` tree, which ends at `,`, `}` or `;`.
fn tree(tokens: &[Token], start: usize, prefix: &[String], found: &mut Vec<Import>) -> usize {
    let mut segments = prefix.to_vec();
    let mut at = start;
    let line = tokens.get(start).map_or(0, |token| token.line);
    loop {
        match text(tokens, at) {
            "{" => {
                at += 1;
                while !matches!(text(tokens, at), "}" | "") {
                    at = tree(tokens, at, &segments, found);
                    if text(tokens, at) == "," {
                        at += 1;
                    }
                }
                at += 1;
                break;
            }
            "as" => at += 2,
            "::" => at += 1,
            name if is_name(name) => {
                segments.push(name.to_owned());
                at += 1;
                if matches!(text(tokens, at), "," | "}" | ";" | "as") {
                    found.push(Import { path: segments.clone(), line });
                }
            }
            "*" => {
                found.push(Import { path: segments.clone(), line });
                at += 1;
            }
            _ => break,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let (tokens, _) = crate::tokens::of_programs(source);
        of(&tokens).into_iter().map(|import| import.path.join("::")).collect()
    }

    #[test]
    fn use_trees_and_paths_in_code_are_found() {
        for (source, expected) in [
            ("use crate::a::B;", &["crate::a::B"][..]),
            (
                "pub(crate) use super::c::{D, e::{self, F as G}, *};",
                &["super::c::D", "super::c::e::self", "super::c::e::F", "super::c"],
            ),
            ("pub use self::x;", &["self::x"]),
            (
                "use std::{fmt::Write as _, io};\nuse crate::{a, b};",
                &["std::fmt::Write", "std::io", "crate::a", "crate::b"],
            ),
            ("fn f() { crate::a::g::<T>(super::h::I { j }); k::l() }", &["crate::a::g", "super::h::I", "k::l"]),
            ("fn f() -> impl Sized + use<T> { crate::a::b }", &["crate::a::b"]),
            ("macro_rules! m { () => { $crate::a::b() } }", &["crate::a::b"]),
            ("fn f() { use crate::a::b; if x { use crate::c::d; } }", &["crate::a::b", "crate::c::d"]),
        ] {
            assert_eq!(paths(source), expected, "{source}");
        }
    }
}
