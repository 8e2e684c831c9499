//! Splits Rust source into identifiers and punctuation, without comments, literals and code that only tests compile.

/// An identifier, `::`, or one other character; with the number of its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// The tokens of code that programs compile: items under `#[cfg(test)]` are left out.
pub(crate) fn of_programs(source: &str) -> (Vec<Token>, Vec<String>) {
    without_tests(&split(source))
}

fn split(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        let start = at;
        let c = get(at);
        if c == '/' && get(at + 1) == '/' {
            while at < chars.len() && get(at) != '\n' {
                at += 1;
            }
        } else if c == '/' && get(at + 1) == '*' {
            at = block_comment(&chars, at);
        } else if let Some(end) = literal(&chars, at) {
            at = end;
        } else if c == '_' || c.is_alphanumeric() {
            while get(at) == '_' || get(at).is_alphanumeric() {
                at += 1;
            }
            tokens.push(Token { text: chars[start..at].iter().collect(), line });
        } else if c == ':' && get(at + 1) == ':' {
            at += 2;
            tokens.push(Token { text: "::".into(), line });
        } else {
            at += 1;
            if !c.is_whitespace() {
                tokens.push(Token { text: c.into(), line });
            }
        }
        line += chars[start..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// The end of a string, character or lifetime that begins at `start`.
fn literal(chars: &[char], start: usize) -> Option<usize> {
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let mut at = start;
    if start > 0 && (get(start - 1) == '_' || get(start - 1).is_alphanumeric()) {
        return None;
    }
    while matches!(get(at), 'b' | 'c' | 'r') && at - start < 2 {
        at += 1;
    }
    let raw = at > start && get(at - 1) == 'r';
    let mut hashes = 0;
    while raw && get(at + hashes) == '#' {
        hashes += 1;
    }
    match get(at + hashes) {
        '"' if raw => {
            at += hashes + 1;
            while at < chars.len() {
                if get(at) == '"' && (1..=hashes).all(|more| get(at + more) == '#') {
                    return Some(at + hashes + 1);
                }
                at += 1;
            }
            Some(at)
        }
        '"' if hashes == 0 => Some(quoted(chars, at + 1, '"')),
        '\'' if hashes == 0 && at - start < 2 => {
            // `'a'` and `'\n'` are characters, `'a` is a lifetime.
            if get(at + 1) == '\\' || get(at + 2) == '\'' {
                Some(quoted(chars, at + 1, '\''))
            } else {
                at += 1;
                while get(at) == '_' || get(at).is_alphanumeric() {
                    at += 1;
                }
                Some(at)
            }
        }
        _ => None,
    }
}

fn quoted(chars: &[char], mut at: usize, end: char) -> usize {
    while at < chars.len() && chars[at] != end {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Leaves out items under `#[cfg(test)]`; also returns the names of modules declared there.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let text = |at: usize| tokens.get(at).map_or("", |token: &Token| token.text.as_str());
    let mut at = 0;
    while at < tokens.len() {
        let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
        if !attribute.iter().enumerate().all(|(offset, expected)| text(at + offset) == *expected) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += attribute.len();
        let mut depth = 0_i32;
        while at < tokens.len() {
            if text(at) == "mod" && text(at + 2) == ";" {
                modules.push(text(at + 1).to_owned());
            }
            match text(at) {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            at += 1;
            let ended = matches!(text(at - 1), ";" | "}" | ",") && depth <= 0;
            if ended {
                break;
            }
        }
    }
    (kept, modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        of_programs(source).0.into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_literals_and_lifetimes_are_no_code() {
        let source = r##"
            // crate::a
            /* crate::b /* crate::c */ crate::d */
            fn f<'a>(x: &'a str) -> char { "crate::e \" crate::f"; r#"crate::g " "#; b"crate::h"; '"'; '\''; 'x' }
        "##;
        let found = texts(source);
        assert!(!found.iter().any(|text| text == "crate"), "{found:?}");
        assert_eq!(found.last().map(String::as_str), Some("}"));
    }

    #[test]
    fn items_of_tests_are_left_out_and_what_follows_them_is_not() {
        let source = "#[cfg(test)] use crate::a; use crate::b; #[cfg(test)] mod tests { use crate::c; } #[cfg(test)] mod more; \
                      #[cfg(test)] #[allow(x)] fn f() -> [u8; 1] { crate::d() } fn g() { crate::e() }";
        let (tokens, modules) = of_programs(source);
        let names: Vec<&str> =
            tokens.iter().map(|t| t.text.as_str()).filter(|t| t.len() == 1 && "abcde".contains(t)).collect();
        assert_eq!(names, ["b", "e"]);
        assert_eq!(modules, ["more"]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_literals() {
        let (tokens, _) = of_programs("/*\n\n*/ a \"x\ny\" b\n// c\nd");
        let lines: Vec<(&str, usize)> = tokens.iter().map(|token| (token.text.as_str(), token.line)).collect();
        assert_eq!(lines, [("a", 3), ("b", 4), ("d", 6)]);
    }
}
