//! Tables of plain texts: aligned for a terminal, or for a page.

use std::io::{self, Write};

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// The heads of its columns.
    pub head: Vec<&'static str>,
    /// The columns of numbers, counted from 0: they stand to the right.
    pub right: Vec<usize>,
    /// Its rows, each with a cell for every column.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Prints it with columns as wide as their widest cell.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn text(&self, out: &mut impl Write) -> io::Result<()> {
        let wide = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..self.head.len())
            .map(|i| self.column(i).map(wide).chain([wide(self.head[i])]).max().unwrap_or_default())
            .collect();
        let head: Vec<String> = self.head.iter().map(|&cell| cell.to_owned()).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for (i, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                line += if i == 0 { "" } else { "  " };
                line += &if self.right.contains(&i) { format!("{cell:>width$}") } else { format!("{cell:width$}") };
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Prints it in Markdown.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn markdown(&self, out: &mut impl Write) -> io::Result<()> {
        let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
        let row = |cells: &[String]| format!("| {} |", cells.join(" | "));
        writeln!(out, "{}", row(&self.head.iter().map(|text| cell(text)).collect::<Vec<_>>()))?;
        let rules: Vec<&str> =
            (0..self.head.len()).map(|i| if self.right.contains(&i) { "---:" } else { "---" }).collect();
        writeln!(out, "|{}|", rules.join("|"))?;
        for cells in &self.rows {
            writeln!(out, "{}", row(&cells.iter().map(|text| cell(text)).collect::<Vec<_>>()))?;
        }
        Ok(())
    }

    fn column(&self, i: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(move |row| row.get(i)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).into();
        let rows = vec![row(["a", "7", "x|y"]), row(["bcdef", "-", ""]), row(["ä", "120", "<z>"])];
        Table { head: vec!["name", "n", "what"], right: vec![1], rows }
    }

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        let mut out = Vec::new();
        table().text(&mut out).unwrap();
        let expected = "name     n  what\na        7  x|y\nbcdef    -\nä      120  <z>\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn no_cell_ends_a_cell_of_a_page() {
        let mut out = Vec::new();
        table().markdown(&mut out).unwrap();
        let expected =
            "| name | n | what |\n|---|---:|---|\n| a | 7 | x\\|y |\n| bcdef | - |  |\n| ä | 120 | &lt;z> |\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
