//! Parses YAML text as `kubectl` does into documents in which every node has its line and column. Whether a document is a valid
//! object is decided by `object`.

use std::collections::{BTreeMap, HashMap};

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Value};
use sluice_crds::schema::{Path, Place, Step};

use super::scalar;

/// The deepest nesting that is accepted.
const MAX_DEPTH: usize = 64;

/// The most values of one file, with aliases expanded.
const MAX_NODES: usize = 200_000;

/// A place in a text, counted from 1 in lines and characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Mark {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

impl From<&Marker> for Mark {
    fn from(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// Something wrong with the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    pub(super) at: Mark,
    pub(super) message: String,
}

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: YamlNode,
    /// Duplicate keys and unknown tags; the rest of the document is still usable.
    pub(super) errors: Vec<YamlError>,
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(super) struct YamlNode {
    pub(super) at: Mark,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Value),
    List(Vec<YamlNode>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Mark,
    pub(super) value: YamlNode,
}

impl YamlNode {
    /// The same without places.
    pub(super) fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Content::Map(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// The entry of a mapping.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// A text below a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.entry(key)?.value.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The position of the field at the end of a path, or of its nearest parent if the field is not in the text.
    pub(super) fn locate(&self, path: &Path, place: Place) -> Mark {
        let mut node = self;
        let mut key_at = self.at;
        for step in path.steps() {
            let next = match (step, &node.content) {
                (Step::Key(key), Content::Map(entries)) => {
                    entries.iter().find(|entry| entry.key == *key).map(|entry| (entry.at, &entry.value))
                }
                (Step::Index(index), Content::List(items)) => items.get(*index).map(|item| (item.at, item)),
                _ => None,
            };
            let Some((at, value)) = next else { return key_at };
            key_at = at;
            node = value;
        }
        match place {
            Place::Key => key_at,
            Place::Value => node.at,
        }
    }
}

/// Reads every document up to the first error of syntax, if there is one.
pub(super) fn parse(text: &str) -> (Vec<Document>, Option<YamlError>) {
    let mut reader =
        Reader { text, events: Parser::new_from_str(text), anchors: HashMap::new(), errors: Vec::new(), nodes: 0 };
    let mut documents = Vec::new();
    let error = loop {
        match reader.document() {
            Ok(Some(document)) => documents.push(document),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    (documents, error)
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, (YamlNode, usize)>,
    errors: Vec<YamlError>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, YamlError> {
        loop {
            let next = self.events.next().transpose().map_err(|error| syntax(&error, self.text))?;
            if !matches!(next, Some((Event::Comment(..), _))) {
                return Ok(next);
            }
        }
    }

    fn document(&mut self) -> Result<Option<Document>, YamlError> {
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamEnd => return Ok(None),
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                first => {
                    self.anchors.clear();
                    let root = self.node(first, &span, 0)?;
                    return Ok(Some(Document { root, errors: std::mem::take(&mut self.errors) }));
                }
            }
        }
        Ok(None)
    }

    /// The node that begins with this event.
    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<YamlNode, YamlError> {
        let at = Mark::from(&span.start);
        if depth > MAX_DEPTH {
            return Err(YamlError { at, message: format!("This is nested more than {MAX_DEPTH} levels deep.") });
        }
        self.count(1, at)?;
        let before = self.nodes;
        let (anchor, content) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, Content::Scalar(self.scalar(&text, style, tag.as_deref(), at)))
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq", at);
                (anchor, Content::List(self.list(depth)?))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map", at);
                (anchor, Content::Map(self.map(depth)?))
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(YamlError {
                        at,
                        message: "This alias is inside of the value that it refers to.".to_owned(),
                    });
                };
                self.count(size, at)?;
                return Ok(YamlNode { at, content: node.content });
            }
            _ => return Err(YamlError { at, message: "A value is expected here.".to_owned() }),
        };
        let node = YamlNode { at, content };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }

    fn count(&mut self, more: usize, at: Mark) -> Result<(), YamlError> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(YamlError {
                at,
                message: format!("This file has more than {MAX_NODES} values, with aliases written out."),
            });
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Mark) -> Value {
        let tag = match tag.map(|tag| tag.core_suffix().ok_or_else(|| tag_name(tag))) {
            None => None,
            Some(Ok(suffix)) => Some(suffix),
            Some(Err(name)) => {
                self.errors.push(unknown_tag(&name, at));
                Some("str")
            }
        };
        let plain = matches!(style, ScalarStyle::Plain);
        scalar::resolve(text, plain, tag).unwrap_or_else(|message| {
            self.errors.push(YamlError { at, message });
            Value::Null
        })
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, expected: &str, at: Mark) {
        if let Some(tag) = tag
            && tag.core_suffix() != Some(expected)
        {
            self.errors.push(unknown_tag(&tag_name(tag), at));
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<YamlNode>, YamlError> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            items.push(self.node(event, &span, depth + 1)?);
        }
        Ok(items)
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, YamlError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        let mut merged: Vec<YamlNode> = Vec::new();
        while let Some((event, span)) = self.next()? {
            let at = Mark::from(&span.start);
            let (key, plain) = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => (text.into_owned(), matches!(style, ScalarStyle::Plain)),
                Event::Alias(_) => {
                    return Err(YamlError { at, message: "An alias cannot be a field name.".to_owned() });
                }
                _ => {
                    let message =
                        "A field name must be a string, not a list or mapping. Quote a value that begins with { or [.";
                    return Err(YamlError { at, message: message.to_owned() });
                }
            };
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, &span, depth + 1)?;
            if key == "<<" && plain {
                merged.push(value);
                continue;
            }
            if let Some(line) = lines.insert(key.clone(), at.line) {
                let message =
                    format!("The field {key} is defined twice; the first is in line {line}. Remove one of them.");
                self.errors.push(YamlError { at, message });
                continue;
            }
            entries.push(Entry { key, at, value });
        }
        for node in merged {
            self.merge(node, &mut entries);
        }
        Ok(entries)
    }

    /// `<<`: fields of other mappings, where the mapping has none of its own.
    fn merge(&mut self, node: YamlNode, entries: &mut Vec<Entry>) {
        match node.content {
            Content::Map(more) => {
                for entry in more {
                    if !entries.iter().any(|own| own.key == entry.key) {
                        entries.push(entry);
                    }
                }
            }
            Content::List(items) => items.into_iter().for_each(|item| self.merge(item, entries)),
            Content::Scalar(_) => {
                let message = "<< needs an alias of a mapping, or of a list of mappings.";
                self.errors.push(YamlError { at: node.at, message: message.to_owned() });
            }
        }
    }
}

fn tag_name(tag: &Tag) -> String {
    format!("{}{}", tag.original_handle(), tag.suffix())
}

fn unknown_tag(name: &str, at: Mark) -> YamlError {
    YamlError { at, message: format!("The tag {name} is not supported in a manifest. Remove it.") }
}

fn syntax(error: &ScanError, text: &str) -> YamlError {
    let info = error.info();
    let mut at = Mark::from(error.marker());
    let hint = if info.contains("tab") {
        at = first_tab(text, at).unwrap_or(at);
        " Indent with spaces."
    } else if info.contains("mapping values are not allowed") {
        " Quote a string that contains a colon followed by a space, and check the indentation."
    } else if info.contains("simple key") || info.contains("expected ':'") {
        " A field is written as name: value, with a space after the colon."
    } else if info.contains("unknown anchor") || info.contains("unexpected character") {
        " Put a string that begins with *, &, @, %, ! or ` in quotes."
    } else if info.contains("escape") {
        " In double quotes, escape a backslash as \\\\; in single quotes, it needs no escape."
    } else {
        ""
    };
    YamlError { at, message: format!("This is not YAML: {info}.{hint}") }
}

/// The first tab that indents a line, from a position on. The scanner reports only where the text before the tab begins.
fn first_tab(text: &str, from: Mark) -> Option<Mark> {
    text.lines().enumerate().skip(from.line.saturating_sub(1)).find_map(|(index, line)| {
        let column = line.chars().take_while(|c| c.is_whitespace()).position(|c| c == '\t')?;
        Some(Mark { line: index + 1, column: column + 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        let (documents, error) = parse(text);
        assert_eq!(error, None);
        assert_eq!(
            documents.iter().flat_map(|document| &document.errors).collect::<Vec<_>>(),
            Vec::<&YamlError>::new()
        );
        Value::Array(documents.iter().map(|document| document.root.to_json()).collect())
    }

    #[test]
    fn documents_read_as_the_same_json() {
        assert_eq!(read("a: 1\nb: [x, {c: true}]\n"), json!([{"a": 1, "b": ["x", {"c": true}]}]));
        assert_eq!(read("a: 1\n---\nb: 2\n---\n"), json!([{"a": 1}, {"b": 2}, null]));
        assert_eq!(read("# nothing\n"), json!([]));
        assert_eq!(read("80: a\ntrue: b\n"), json!([{"80": "a", "true": "b"}]));
        assert_eq!(read("text: |\n  a\n  b\n"), json!([{"text": "a\nb\n"}]));
    }

    #[test]
    fn anchors_and_merges_are_written_out() {
        assert_eq!(
            read("a: &x {b: 1, c: 2}\nd: *x\ne: {<<: *x, b: 3}\n"),
            json!([{"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 2}, "e": {"b": 3, "c": 2}}])
        );
    }

    #[test]
    fn a_part_is_found_again() {
        let (documents, _) = parse("spec:\n  rules:\n  - name: a\n    path: /x\n  - name: b\n");
        let at = |path: &str, place| {
            let mark = documents[0].root.locate(&Path::parse(path), place);
            (mark.line, mark.column)
        };
        assert_eq!(at("spec.rules[0].path", Place::Value), (4, 11));
        assert_eq!(at("spec.rules[0].path", Place::Key), (4, 5));
        assert_eq!(at("spec.rules[1]", Place::Value), (5, 5));
        assert_eq!(at("spec.rules[1].path", Place::Key), (5, 5));
        assert_eq!(at("status", Place::Value), (1, 1));
    }

    #[test]
    fn a_duplicate_field_is_reported_and_the_first_is_used() {
        let (documents, error) = parse("a: 1\nb: 2\na: 3\n");
        assert_eq!(error, None);
        assert_eq!(documents[0].root.to_json(), json!({"a": 1, "b": 2}));
        assert_eq!(documents[0].errors[0].at, Mark { line: 3, column: 1 });
        assert!(documents[0].errors[0].message.contains("line 1"));
    }

    #[test]
    fn documents_before_a_syntax_error_are_used() {
        let (documents, error) = parse("a: 1\n---\nb: [1\nc: 2\n");
        assert_eq!(documents.len(), 1);
        assert!(error.unwrap().at.line >= 3);
        let (documents, error) = parse("a: 1\n\tb: 2\n");
        assert!(documents.is_empty());
        let error = error.unwrap();
        assert!(error.message.contains("spaces") && error.at.line == 2, "{error:?}");
    }

    #[test]
    fn alias_bombs_are_rejected() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
        }
        assert!(parse(&bomb).1.unwrap().message.contains("more than"));
        assert!(parse(&"[".repeat(5000)).1.is_some());
        assert!(parse("a: &x [*x]\n").1.is_some());
    }

    #[test]
    fn an_unknown_tag_is_reported() {
        let (documents, _) = parse("a: !secret x\nb: !!str 1\n");
        assert_eq!(documents[0].root.to_json(), json!({"a": "x", "b": "1"}));
        assert_eq!(documents[0].errors.len(), 1);
        assert!(documents[0].errors[0].message.contains("!secret"), "{}", documents[0].errors[0].message);
    }
}
