//! Conditions as a table for a terminal. Where it is printed is the program's.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sluice_crds::condition::{self, Status};

use crate::publish::{Member, Published, programmed};
use crate::translate::Translation;

/// Every object with its conditions, one line each; below it the sentences of conditions that do not hold.
/// With `fleet`, `Programmed` is a column too.
#[must_use]
pub fn table(translation: &Translation, fleet: Option<(&Published, &BTreeMap<String, Member>)>) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut header: Vec<String> = ["KIND", "NAMESPACE/NAME", "ACCEPTED", "RESOLVEDREFS"].map(str::to_owned).to_vec();
    if fleet.is_some() {
        header.push("PROGRAMMED".to_owned());
    }
    rows.push(header);
    let mut notes: Vec<Vec<String>> = vec![Vec::new()];
    for (object, wanted) in &translation.statuses {
        let mut conditions = wanted.conditions.clone();
        conditions.extend(fleet.map(|(current, members)| programmed(object, wanted, current, members).condition));
        let mut row = vec![object.kind.to_string(), object.id()];
        row.extend(conditions.iter().map(word));
        rows.push(row);
        let bad = conditions.iter().filter(|condition| condition.status != Status::True);
        notes.push(bad.map(|condition| format!("{}: {}", condition.reason, condition.message)).collect());
    }
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for (row, notes) in rows.iter().zip(&notes) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        // Writing into a String cannot fail.
        writeln!(text, "{}", line.trim_end()).unwrap_or_default();
        for note in notes {
            writeln!(text, "    {note}").unwrap_or_default();
        }
    }
    text
}

fn word(condition: &condition::Wanted) -> String {
    match condition.status {
        Status::True => "True".to_owned(),
        Status::False | Status::Unknown => format!("{} ({})", condition.status.as_str(), condition.reason),
    }
}
