//! An error of an object: the path of the field, and a message. The reader of a file adds line and column.

use std::fmt;

/// One step from an object into its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the field of that name.
    Key(String),
    /// To the item of a list, from 0.
    Index(usize),
}

/// The way from an object to one of its parts; prints as `spec.rules[0].path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Step>);

impl Path {
    /// The steps, outermost first.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// How many steps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is the object itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One step further.
    pub fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    /// One step back.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    /// Reads `spec.rules[0].path`. Names with dots or brackets are not supported; no field with a CEL rule has
    /// one.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let mut pieces = part.split('[');
            if let Some(name) = pieces.next().filter(|name| !name.is_empty()) {
                steps.push(Step::Key(name.to_owned()));
            }
            steps.extend(pieces.filter_map(|piece| piece.trim_end_matches(']').parse().ok()).map(Step::Index));
        }
        Self(steps)
    }
}

impl FromIterator<Step> for Path {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("The object");
        }
        self.0.iter().enumerate().try_for_each(|(index, step)| match step {
            Step::Key(name) if index == 0 => f.write_str(name),
            Step::Key(name) => write!(f, ".{name}"),
            Step::Index(item) => write!(f, "[{item}]"),
        })
    }
}

/// The side of an entry that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The field's name: it must not exist, or another field of its object is missing.
    Key,
    /// The value.
    Value,
}

/// One error of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where.
    pub path: Path,
    /// On which side.
    pub place: Place,
    /// What is wrong: a whole sentence that names the field and what is allowed.
    pub message: String,
    /// What to write instead, when we know: a whole sentence.
    pub hint: Option<String>,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_what_it_prints() {
        for text in ["spec", "spec.rules[0].path", "spec.rules[12].headers[3]", "a[1][2].b"] {
            assert_eq!(Path::parse(text).to_string(), text);
        }
        assert_eq!(Path::parse("").steps(), &[]);
        assert_eq!(
            Path::parse("spec.rules[1]").steps(),
            &[Step::Key("spec".into()), Step::Key("rules".into()), Step::Index(1)]
        );
    }
}
