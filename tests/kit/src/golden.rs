//! Golden files: the result of a test must equal a committed file. `UPDATE_GOLDEN=1` writes the files instead.

use std::path::Path;

use similar::TextDiff;

/// The environment variable that makes [`compare`] write the files.
pub const UPDATE: &str = "UPDATE_GOLDEN";

/// Whether golden files are written instead of compared.
#[must_use]
pub fn updating() -> bool {
    std::env::var_os(UPDATE).is_some()
}

/// Compares a text with a file, or writes the file.
///
/// # Errors
///
/// Where they differ: the file's path and the lines that differ, `-` in the file, `+` in the text.
pub fn compare(file: &Path, text: &str) -> Result<(), String> {
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    if expected == text {
        return Ok(());
    }
    if updating() {
        return std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()));
    }
    Err(difference(&file.display().to_string(), &expected, text))
}

/// The lines that differ, with three lines around them.
#[must_use]
pub fn difference(name: &str, expected: &str, actual: &str) -> String {
    let differences = TextDiff::from_lines(expected, actual);
    let lines = differences.unified_diff().context_radius(3).header(name, "what the test computed").to_string();
    format!("{lines}\n{UPDATE}=1 writes the files; read `git diff` afterwards")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_the_lines_that_differ_and_few_others() {
        let lines: Vec<String> = (0..100).map(|number| format!("line {number}\n")).collect();
        let shown = difference("parts.yaml", &lines.concat(), &lines.concat().replace("line 50\n", "other\n"));
        assert!(shown.contains("-line 50\n+other\n"), "{shown}");
        assert!(shown.contains(" line 47\n") && !shown.contains("line 46\n"), "{shown}");
    }

    #[test]
    fn a_file_that_is_missing_differs() {
        assert!(compare(Path::new("/nonexistent/parts.yaml"), "a: 1\n").unwrap_err().contains("+a: 1"));
    }
}
