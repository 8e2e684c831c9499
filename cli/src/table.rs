//! Text tables whose columns are as wide as their widest cell.

use std::fmt::Write as _;

/// Renders titles and rows in columns. The last column is not padded.
pub(crate) fn render(titles: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(titles.get(column).map(|title| title.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let mut out = String::new();
    let mut line = |cells: Vec<&str>| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            // Writing to a String cannot fail.
            write!(text, "{cell:<width$}  ").unwrap_or_default();
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(titles.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["Stage".into(), "shop/prod".into()], vec!["ApiRoute".into(), "é".into()]];
        assert_eq!(render(&["KIND", "NAME"], &rows), "KIND      NAME\nStage     shop/prod\nApiRoute  é\n");
    }
}
