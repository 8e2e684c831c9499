//! Reads a directory of YAML and JSON files as objects, validated as an API server does. `translate` decides what they are
//! translated to.

mod object;
mod scalar;
mod walk;
mod watch;
mod yaml;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    hash::{Hash as _, Hasher as _},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use watch::watch;

use self::yaml::Mark;
use crate::objects::{Kind, Object, ObjectKey};

/// The largest manifest: an API server accepts no larger object.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// More files that are not read are counted, not listed.
const MAX_OTHERS: usize = 8;

/// A place in a file, counted from 1; prints as `file:line:column`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file, below the directory's name as it was given.
    pub file: Arc<Path>,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The object, or the file, is not served as written.
    Error,
    /// Worth knowing.
    Note,
}

/// Something that a person should know about a file; prints as `file:line:column: sentences`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub location: Location,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, what is allowed, and what to write instead: whole sentences.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}

/// An object and where it was written.
#[derive(Clone, Debug)]
pub struct Located {
    /// The object; [`Object::Unparsable`] when it is invalid by its schema.
    pub object: Object,
    /// Where it begins.
    pub location: Location,
}

/// One file.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its objects, in order.
    pub objects: Vec<Located>,
    /// What is wrong with it, in order.
    pub problems: Vec<Problem>,
    /// Whether it was parsed to its end. If not, it may have more objects.
    pub complete: bool,
    /// The hash of the text, so that a file that did not change is not validated again.
    hash: u64,
}

/// A directory as it was read.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What each file holds.
    pub files: BTreeMap<PathBuf, Manifest>,
    /// What is wrong with the directory itself.
    pub directory_problems: Vec<Problem>,
    /// Files that are not read.
    others: Vec<Problem>,
    /// Objects that are defined in several places.
    duplicates: Vec<Problem>,
}

impl Loaded {
    /// Every object; of an object that is defined in several places only the first.
    pub fn objects(&self) -> impl Iterator<Item = &Located> {
        let mut seen = std::collections::BTreeSet::new();
        self.files
            .values()
            .flat_map(|manifest| &manifest.objects)
            .filter(move |located| seen.insert(located.object.identity()))
    }

    /// Everything that a person should know, by place.
    #[must_use]
    pub fn problems(&self) -> Vec<&Problem> {
        let files = self.files.values().flat_map(|manifest| &manifest.problems);
        let found = self.directory_problems.iter().chain(&self.duplicates).chain(&self.others).chain(files);
        let mut problems: Vec<&Problem> = found.collect();
        problems.sort_by(|a, b| a.location.cmp(&b.location));
        problems
    }

    /// Whether anything is not served as written.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Where an object was written.
    #[must_use]
    pub fn location(&self, kind: Kind, key: &ObjectKey) -> Option<&Location> {
        self.objects()
            .find(|located| {
                let (other, other_key) = located.object.identity();
                other == kind && other_key == *key
            })
            .map(|located| &located.location)
    }

    /// Takes the objects of files that cannot be read to their end from an earlier reading, so that a half-written file
    /// does not take away what is served. The problems stay those of this reading.
    pub fn keep_from(&mut self, earlier: &Self) {
        for (path, manifest) in &mut self.files {
            if !manifest.complete
                && let Some(before) = earlier.files.get(path)
            {
                manifest.objects.clone_from(&before.objects);
            }
        }
        self.find_duplicates();
    }

    fn find_duplicates(&mut self) {
        let mut first: BTreeMap<(Kind, ObjectKey), &Location> = BTreeMap::new();
        let mut duplicates = Vec::new();
        for located in self.files.values().flat_map(|manifest| &manifest.objects) {
            let identity = located.object.identity();
            match first.get(&identity) {
                None => drop(first.insert(identity, &located.location)),
                Some(place) => {
                    let (kind, key) = identity;
                    let message = format!(
                        "{kind} {key} is already defined in {place}, which is used. Rename or remove one of them."
                    );
                    duplicates.push(error(located.location.clone(), message));
                }
            }
        }
        self.duplicates = duplicates;
    }
}

/// Reads every manifest of a directory. It blocks the thread.
///
/// An invalid file does not affect other files, and an invalid object does not affect other objects of its file.
#[must_use]
pub fn load(dir: &Path) -> Loaded {
    read_all(dir, &Loaded::default())
}

/// Reads a directory again, with [`Loaded::keep_from`]; files whose text did not change are not validated again.
///
/// Objects of a directory that can no longer be read are kept, because they are not known to be deleted.
#[must_use]
pub fn reload(dir: &Path, earlier: &Loaded) -> Loaded {
    let mut loaded = read_all(dir, earlier);
    for problem in &loaded.directory_problems {
        let below = earlier.files.iter().filter(|(path, _)| path.starts_with(&problem.location.file));
        for (path, manifest) in below {
            loaded.files.entry(path.clone()).or_insert_with(|| manifest.clone());
        }
    }
    loaded.keep_from(earlier);
    loaded
}

fn read_all(dir: &Path, earlier: &Loaded) -> Loaded {
    let listing = walk::list(dir);
    let mut loaded = Loaded::default();
    for (path, message) in listing.problems {
        loaded.directory_problems.push(error(locate(&path.into(), Mark::START), message));
    }
    loaded.others = others(listing.others);
    for path in listing.files {
        let manifest = match read(&path) {
            Ok(Some(text)) => match earlier.files.get(&path) {
                Some(before) if before.hash == hash(&text) => before.clone(),
                _ => parse(&path, &text),
            },
            // It went away between being listed and being opened.
            Ok(None) => continue,
            Err((mark, message)) => Manifest {
                objects: Vec::new(),
                problems: vec![error(locate(&path.as_path().into(), mark), message)],
                complete: false,
                hash: 0,
            },
        };
        loaded.files.insert(path, manifest);
    }
    loaded.find_duplicates();
    loaded
}

/// Notes about files that are not read.
fn others(mut paths: Vec<PathBuf>) -> Vec<Problem> {
    paths.sort();
    let more = paths.len().saturating_sub(MAX_OTHERS);
    let notes = paths.into_iter().take(MAX_OTHERS).enumerate().map(|(number, path)| {
        let mut message = "The file is ignored: manifests end in .yaml, .yml or .json.".to_owned();
        if more > 0 && number + 1 == MAX_OTHERS {
            message.push_str(&format!(" {more} more files are ignored."));
        }
        Problem { location: locate(&path.into(), Mark::START), severity: Severity::Note, message }
    });
    notes.collect()
}

/// Parses a manifest by the extension of its name.
fn documents(path: &Path, text: &str) -> (Vec<yaml::Document>, Option<yaml::YamlError>) {
    if path.extension().is_none_or(|extension| extension != "json") {
        return yaml::parse(text);
    }
    match serde_json::from_str::<serde_json::Value>(text) {
        Err(error) => {
            let at = Mark { line: error.line().max(1), column: error.column().max(1) };
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default();
            (Vec::new(), Some(yaml::YamlError { at, message: format!("The file is not valid JSON: {reason}.") }))
        }
        Ok(value) => {
            let (documents, syntax) = yaml::parse(text);
            // Tabs and escapes that JSON has and YAML does not.
            if syntax.is_none() { (documents, None) } else { yaml::parse(&value.to_string()) }
        }
    }
}

/// Whether the document of a JSON file is something else than a manifest.
fn is_other_json(path: &Path, document: &yaml::Document) -> bool {
    let json = path.extension().is_some_and(|extension| extension == "json");
    json && document.root.entry("kind").is_none() && document.root.entry("apiVersion").is_none()
}

/// Reads the text of one manifest. The extension of the path decides whether it is JSON or YAML.
#[must_use]
pub fn parse(path: &Path, text: &str) -> Manifest {
    let file: Arc<Path> = path.into();
    let (documents, syntax) = documents(path, text);
    let complete = syntax.is_none();
    let mut manifest = Manifest { objects: Vec::new(), problems: Vec::new(), complete, hash: hash(text) };
    for document in &documents {
        if is_other_json(path, document) {
            let message =
                "The file is ignored: it has neither apiVersion nor kind, so it is not a manifest.".to_owned();
            let location = locate(&file, document.root.at);
            manifest.problems.push(Problem { location, severity: Severity::Note, message });
            continue;
        }
        let outcome = object::read(document);
        let objects = outcome.objects.into_iter();
        manifest.objects.extend(objects.map(|(mark, object)| Located { object, location: locate(&file, mark) }));
        manifest.problems.extend(outcome.errors.into_iter().map(|(mark, message)| error(locate(&file, mark), message)));
        manifest.problems.extend(outcome.notes.into_iter().map(|(mark, message)| Problem {
            location: locate(&file, mark),
            severity: Severity::Note,
            message,
        }));
    }
    manifest.problems.extend(syntax.map(|found| error(locate(&file, found.at), found.message)));
    manifest.problems.sort_by(|a, b| a.location.cmp(&b.location));
    manifest
}

/// Never 0: that stands for a text that could not be read.
fn hash(text: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish() | 1
}

fn locate(file: &Arc<Path>, mark: Mark) -> Location {
    Location { file: Arc::clone(file), line: mark.line, column: mark.column }
}

fn error(location: Location, message: String) -> Problem {
    Problem { location, severity: Severity::Error, message }
}

/// The text of a file, if it is still there.
fn read(path: &Path) -> Result<Option<String>, (Mark, String)> {
    let unreadable = |error: &io::Error| (Mark::START, format!("Cannot read the file: {error}."));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("The file is larger than {} MiB. Split it.", MAX_FILE_BYTES >> 20);
        return Err((Mark::START, message));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        (Mark { line, column: 1 }, "The file is not valid UTF-8 from here on. Save it as UTF-8.".to_owned())
    })
}

#[cfg(test)]
mod tests;
