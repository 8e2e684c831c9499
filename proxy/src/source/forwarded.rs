//! The `Forwarded` header (RFC 7239): the parameter `for` of each element.

/// The values of `for`, in the order of the elements; an element without one has an empty value. None: the header
/// is malformed.
pub(super) fn nodes<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Vec<Vec<u8>>> {
    let mut nodes = Vec::new();
    for value in values {
        let mut rest = value;
        while !rest.is_empty() {
            let (node, after) = element(rest)?;
            nodes.extend(node);
            rest = after;
        }
    }
    Some(nodes)
}

/// The first element of a list, and what follows its comma. None: the element is empty, which lists may contain.
fn element(text: &[u8]) -> Option<(Option<Vec<u8>>, &[u8])> {
    let (mut node, mut rest, mut is_empty) = (None, text, true);
    loop {
        rest = rest.trim_ascii_start();
        match rest.split_first() {
            None => break,
            Some((b',', after)) => {
                rest = after;
                break;
            }
            Some((b';', after)) => rest = after,
            Some(_) => {
                let (name, value, after) = pair(rest)?;
                is_empty = false;
                if name.eq_ignore_ascii_case(b"for") && node.replace(value).is_some() {
                    return None; // a parameter occurs once
                }
                rest = after;
            }
        }
    }
    Some(((!is_empty).then(|| node.unwrap_or_default()), rest))
}

/// A parameter's name and value, and what follows.
type Pair<'a> = (&'a [u8], Vec<u8>, &'a [u8]);

/// `name=token` or `name="quoted"`.
fn pair(text: &[u8]) -> Option<Pair<'_>> {
    let at = text.iter().position(|byte| matches!(byte, b'=' | b',' | b';' | b'"'))?;
    let (name, rest) = text.split_at_checked(at)?;
    let rest = rest.strip_prefix(b"=")?;
    let Some(quoted) = rest.strip_prefix(b"\"") else {
        let end = rest.iter().position(|byte| matches!(byte, b',' | b';')).unwrap_or(rest.len());
        let (value, rest) = rest.split_at_checked(end)?;
        return Some((name, value.trim_ascii_end().to_vec(), rest));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                let rest = quoted.get(at + 1..).unwrap_or_default().trim_ascii_start();
                let ends = matches!(rest.first(), None | Some(b',' | b';'));
                return if ends { Some((name, value, rest)) } else { None };
            }
            b'\\' => value.push(*bytes.next()?.1),
            other => value.push(*other),
        }
    }
    None
}
