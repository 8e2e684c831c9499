//! Reads the tables of modules in docs/architecture.md. A table belongs to the folder that a comment before it names:
//!
//! ```text
//! <!-- modules of proxy/src -->
//! | rank | module | responsibility |
//! | --- | --- | --- |
//! | 0 | `deadline` | … |
//! ```

use std::collections::BTreeMap;

/// Ranks by module.
pub(crate) type Ranks = BTreeMap<String, u32>;

/// The tables of a page, by folder.
pub(crate) fn of_page(page: &str) -> Result<BTreeMap<String, Ranks>, String> {
    let mut tables: BTreeMap<String, Ranks> = BTreeMap::new();
    let mut folder: Option<String> = None;
    for (number, line) in page.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("<!-- modules of ").and_then(|rest| rest.strip_suffix(" -->")) {
            tables.insert(name.to_owned(), Ranks::new());
            folder = Some(name.to_owned());
            continue;
        }
        let Some(name) = &folder else { continue };
        let table = tables.entry(name.clone()).or_default();
        let Some(row) = line.strip_prefix('|') else {
            if !table.is_empty() {
                folder = None;
            }
            continue;
        };
        let mut cells = row.split('|').map(str::trim);
        let (rank, modules) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        let Ok(rank) = rank.parse() else { continue };
        for module in modules.split(',').map(|module| module.trim().trim_matches('`')) {
            if module.is_empty() || table.insert(module.to_owned(), rank).is_some() {
                return Err(format!(
                    "docs/architecture.md:{}: the module `{module}` has two rows or no name",
                    number + 1
                ));
            }
        }
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_belongs_to_the_folder_named_before_it() {
        let page = "# Page\n\n| 7 | `none` | |\n\n<!-- modules of a/src -->\n\n| rank | module | does |\n| --- | --- | --- |\n| 0 | `x` | |\n| 1 | `y` | |\n\ntext\n| 2 | `z` | |\n";
        let tables = of_page(page).unwrap();
        let expected = Ranks::from([("x".to_owned(), 0), ("y".to_owned(), 1)]);
        assert_eq!(tables, BTreeMap::from([("a/src".to_owned(), expected)]));
    }

    #[test]
    fn a_module_has_one_row() {
        assert!(of_page("<!-- modules of a/src -->\n| 0 | `x` | |\n| 1 | `x` | |\n").is_err());
    }
}
